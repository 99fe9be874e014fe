package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// streamsScreen lists the streams.
type streamsScreen struct {
	m      *Model
	got    *overview.Streams // nil before the first answer
	list   list
	filter string
	order  int // index in streamOrders
}

// streamOrders are the orders of the list.
var streamOrders = []struct {
	name    string
	compare func(a, b overview.Stream) int
}{
	{"name", func(overview.Stream, overview.Stream) int { return 0 }}, // the Watcher's
	{"messages", func(a, b overview.Stream) int { return cmp.Compare(b.Stats.MessageCount, a.Stats.MessageCount) }},
	{"rate", func(a, b overview.Stream) int { return cmp.Compare(b.In.Now+b.Out.Now, a.In.Now+a.Out.Now) }},
}

func newStreamsScreen(m *Model) *streamsScreen {
	return &streamsScreen{m: m, list: list{empty: "Asking the server ..."}}
}

func (s *streamsScreen) title() string { return "streams" }

func (s *streamsScreen) ask() func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) { return s.m.cfg.Watcher.Streams(ctx) }
}

func (s *streamsScreen) answered(value any) {
	s.got = value.(*overview.Streams)
	s.m.server = s.got.Server
	s.show()
}

// show fills the list.
func (s *streamsScreen) show() {
	if s.got == nil {
		return
	}
	s.list.empty = "There are no streams: n makes one."
	if s.filter != "" {
		s.list.empty = "No stream has this in its name."
	}
	shown := slices.DeleteFunc(slices.Clone(s.got.Streams), func(st overview.Stream) bool { return !strings.Contains(st.Name, s.filter) })
	slices.SortStableFunc(shown, streamOrders[s.order].compare)
	columns := []column{{"STREAM", 0, false}, {"MESSAGES", 8, true}, {"SIZE", 7, true}, {"CONS", 4, true}, {"IN/S", 6, true}, {"", 9, false}}
	metrics := s.got.Server.Metrics
	if metrics {
		columns = append(columns, column{"OUT/S", 6, true}, column{"", 9, false})
	}
	rows := make([]row, len(shown))
	for i, st := range shown {
		cells := []string{visible(st.Name), count(st.Stats.MessageCount), cli.Bytes(st.Stats.StorageSize), fmt.Sprint(st.Stats.ConsumerCount),
			perSecond(st.In), sparkline(st.In, 9)}
		if metrics {
			cells = append(cells, perSecond(st.Out), sparkline(st.Out, 9))
		}
		rows[i] = row{st.Name, cells}
	}
	s.list.set(columns, rows)
}

func (s *streamsScreen) summary() string {
	if s.got == nil {
		return ""
	}
	messages, bytes, in, out := int64(0), int64(0), 0.0, 0.0
	for _, st := range s.got.Streams {
		messages, bytes, in, out = messages+st.Stats.MessageCount, bytes+st.Stats.StorageSize, in+st.In.Now, out+st.Out.Now
	}
	text := fmt.Sprintf("%s, %s, %s, %.0f/s in", cli.Plural(len(s.got.Streams), "stream"), cli.Plural(messages, "message"), cli.Bytes(bytes), in)
	if s.got.Server.Metrics {
		text += fmt.Sprintf(", %.0f/s out", out)
	}
	return text + ", by " + streamOrders[s.order].name
}

func (s *streamsScreen) body(width, height int) string { return s.list.view(width, height) }

func (s *streamsScreen) keys() []binding {
	return []binding{{"enter", "consumers"}, {"m", "messages"}, {"s", "sort"}, {"t", "test message"}, {"n", "new"}, {"p", "purge"}, {"d", "delete"}}
}

func (s *streamsScreen) press(key string) (tea.Cmd, bool) {
	if s.list.press(key) {
		return nil, true
	}
	name := s.list.selected()
	switch {
	case key == "s":
		s.order = (s.order + 1) % len(streamOrders)
		s.show()
	case key == "n":
		return s.m.newStream(), true
	case name == "":
		return nil, false
	case key == "enter", key == "right", key == "l":
		return s.m.open(newConsumersScreen(s.m, name)), true
	case key == "m":
		return s.m.open(newMessagesScreen(s.m, name)), true
	case key == "t":
		return s.m.sendTest(name), true
	case key == "p":
		return s.m.purge(name), true
	case key == "d":
		return s.m.deleteStream(name), true
	default:
		return nil, false
	}
	return nil, true
}

func (s *streamsScreen) filtered(text string) bool {
	s.filter = text
	s.show()
	return false
}

func (s *streamsScreen) filterText() string { return s.filter }
