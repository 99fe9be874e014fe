package observe

import (
	"context"
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// consumersScreen lists the consumers of a stream.
type consumersScreen struct {
	m      *Model
	stream string
	got    *overview.Detail // nil before the first answer
	list   list
	filter string
}

func newConsumersScreen(m *Model, stream string) *consumersScreen {
	return &consumersScreen{m: m, stream: stream, list: list{empty: "Asking the server ..."}}
}

func (s *consumersScreen) title() string { return visible(s.stream) }

func (s *consumersScreen) ask() func(context.Context) (any, error) {
	stream := s.stream
	return func(ctx context.Context) (any, error) { return s.m.cfg.Watcher.Stream(ctx, stream) }
}

func (s *consumersScreen) answered(value any) {
	s.got = value.(*overview.Detail)
	s.m.server = s.got.Server
	s.show()
}

func (s *consumersScreen) show() {
	if s.got == nil {
		return
	}
	s.list.empty = "The stream has no consumers: n makes one."
	if s.filter != "" {
		s.list.empty = "No consumer has this in its name."
	}
	columns, cells := measuredColumns, measuredCells
	if !s.got.Server.Metrics {
		columns, cells = plainColumns, plainCells
	}
	var rows []row
	for _, c := range s.got.Consumers {
		if strings.Contains(c.Name, s.filter) {
			rows = append(rows, row{c.Name, cells(c)})
		}
	}
	s.list.set(columns, rows)
}

var measuredColumns = []column{{"CONSUMER", 0, false}, {"BACKLOG", 8, true}, {"OLDEST", 6, true}, {"LEASED", 6, true}, {"DELAYED", 7, true},
	{"WAIT", 4, true}, {"AGAIN", 5, true}, {"OUT/S", 6, true}, {"", 8, false}, {"ACK/S", 6, true}}

func measuredCells(c overview.Consumer) []string {
	backlog, again := "-", "-"
	if c.Measured {
		if backlog = count(c.Backlog); c.Estimated {
			backlog = "~" + backlog
		}
	}
	if c.Deliveries.Known && c.Deliveries.Now > 0 {
		again = fmt.Sprintf("%.0f%%", 100*c.RedeliveryShare())
	}
	return []string{visible(c.Name), backlog, oldest(c), count(c.Outstanding), count(c.Delayed), count(c.Waiting), again,
		perSecond(c.Deliveries), sparkline(c.Deliveries, 8), perSecond(c.Acks)}
}

// plainColumns are those of a server without metrics.
var plainColumns = []column{{"CONSUMER", 0, false}, {"FILTER", 0, false}, {"OLDEST", 6, true}, {"ACK WAIT", 8, true}, {"MAX PENDING", 11, true}}

func plainCells(c overview.Consumer) []string {
	return []string{visible(c.Name), visible(c.Filter), oldest(c), c.AckWait.String(), count(int64(c.MaxAckPending))}
}

// oldest is the age of the oldest unsettled message.
func oldest(c overview.Consumer) string {
	switch {
	case !c.OldestKnown:
		return "?"
	case c.OldestAge == 0:
		return "-"
	}
	return short(c.OldestAge)
}

func (s *consumersScreen) summary() string {
	if s.got == nil {
		return ""
	}
	st := s.got.Stream
	text := fmt.Sprintf("%s, %s, in %s/s %s", cli.Plural(st.Stats.MessageCount, "message"), cli.Bytes(st.Stats.StorageSize), perSecond(st.In), sparkline(st.In, 12))
	if s.got.Server.Metrics {
		text += fmt.Sprintf("  out %s/s %s", perSecond(st.Out), sparkline(st.Out, 12))
	}
	return text
}

func (s *consumersScreen) body(width, height int) string { return s.list.view(width, height) }

func (s *consumersScreen) keys() []binding {
	return []binding{{"enter", "what is stuck"}, {"m", "messages"}, {"r", "redrive"}, {"n", "new"}, {"d", "delete"}, {"t", "test message"}}
}

func (s *consumersScreen) press(key string) (tea.Cmd, bool) {
	if s.list.press(key) {
		return nil, true
	}
	name := s.list.selected()
	switch {
	case key == "m":
		return s.m.open(newMessagesScreen(s.m, s.stream)), true
	case key == "t":
		return s.m.sendTest(s.stream), true
	case key == "n":
		return s.m.newConsumer(s.stream), true
	case name == "":
		return nil, false
	case key == "enter", key == "right", key == "l":
		return s.m.open(newUnsettledScreen(s.m, s.stream, name)), true
	case key == "r":
		return s.m.redrive(s.stream, name), true
	case key == "d":
		return s.m.deleteConsumer(s.stream, name), true
	}
	return nil, false
}

func (s *consumersScreen) filtered(text string) bool {
	s.filter = text
	s.show()
	return false
}

func (s *consumersScreen) filterText() string { return s.filter }
