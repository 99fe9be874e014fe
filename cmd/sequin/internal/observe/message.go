package observe

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// maxShown is how many bytes of the data are shown. More would take long to wrap, and nobody reads them here.
const maxShown = 100_000

// messageScreen shows one message: its data, and its state at each consumer.
type messageScreen struct {
	m           *Model
	stream, key string
	seq         int64
	got         *shownMessage // nil before the first answer

	lines  []string // of got, for width
	width  int
	height int
	offset int
}

// shownMessage is an answer, with the seq of the newest message of the key.
type shownMessage struct {
	*sequin.MessageInfo
	newest int64
}

func newMessageScreen(m *Model, stream string, msg *sequin.StoredMessage) *messageScreen {
	return &messageScreen{m: m, stream: stream, key: msg.Key, seq: msg.Seq}
}

func (s *messageScreen) title() string { return visible(s.key) }

func (s *messageScreen) ask() func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		info, newest, err := s.m.cfg.Watcher.MessageAt(ctx, s.stream, s.key, s.seq)
		return &shownMessage{info, newest}, err
	}
}

func (s *messageScreen) answered(value any) { s.got, s.lines = value.(*shownMessage), nil }

func (s *messageScreen) summary() string {
	if s.got == nil {
		return "Asking the server ..."
	}
	msg := s.got.Message
	text := fmt.Sprintf("seq %d, stored %s ago, %s", msg.Seq, age(s.m.cfg.Now().Sub(msg.UpdatedAt)), cli.Bytes(int64(len(msg.Data))))
	if !msg.InsertedAt.Equal(msg.UpdatedAt) {
		text += fmt.Sprintf(", its key first %s ago", age(s.m.cfg.Now().Sub(msg.InsertedAt)))
	}
	if s.got.newest > msg.Seq {
		text += fmt.Sprintf(", the newest of its key has seq %d", s.got.newest)
	}
	return text
}

func (s *messageScreen) body(width, height int) string {
	if s.got == nil {
		return ""
	}
	if s.lines == nil || s.width != width {
		s.width = width
		s.lines = strings.Split(ansi.Hardwrap(s.text(), width, true), "\n")
	}
	s.height = height
	s.scroll(0)
	return strings.Join(s.lines[s.offset:min(len(s.lines), s.offset+height)], "\n")
}

// text is what is shown of the message.
func (s *messageScreen) text() string {
	var out strings.Builder
	now := s.m.cfg.Now()
	for _, c := range s.got.Consumers {
		tries := ""
		if c.DeliverCount > 0 && c.State != sequin.StateAvailable { // of which why says it
			tries = ", " + cli.Plural(c.DeliverCount, "delivery")
			if c.DeliverCount > 1 {
				tries = fmt.Sprintf(", %d deliveries", c.DeliverCount)
			}
		}
		fmt.Fprintf(&out, "%-20s %s%s\n", visible(c.ConsumerName), why(c.DeliveryInfo, now), tries)
	}
	if len(s.got.Consumers) == 0 {
		out.WriteString("No consumer gets this key.\n")
	}
	out.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(s.got.Message.Headers)) {
		fmt.Fprintf(&out, "%s: %s\n", visible(name), visible(s.got.Message.Headers[name]))
	}
	if len(s.got.Message.Headers) > 0 {
		out.WriteByte('\n')
	}
	data, rest := s.got.Message.Data, ""
	if len(data) > maxShown {
		data, rest = strings.ToValidUTF8(data[:maxShown], ""), fmt.Sprintf("\n... and %s more", cli.Bytes(int64(len(data)-maxShown)))
	}
	// The tabs of data would otherwise be wider than they are counted.
	out.WriteString(strings.ReplaceAll(overview.Visible(overview.Pretty(data), true), "\t", "    ") + rest)
	return out.String()
}

func (s *messageScreen) scroll(by int) {
	s.offset = max(0, min(s.offset+by, len(s.lines)-s.height))
}

func (s *messageScreen) keys() []binding { return []binding{{"up, down", "scroll"}} }

func (s *messageScreen) press(key string) (tea.Cmd, bool) {
	page := max(1, s.height-1)
	switch key {
	case "up", "k":
		s.scroll(-1)
	case "down", "j":
		s.scroll(1)
	case "pgup", "ctrl+b":
		s.scroll(-page)
	case "pgdown", "ctrl+f", "space":
		s.scroll(page)
	case "home", "g":
		s.scroll(-len(s.lines))
	case "end", "G":
		s.scroll(len(s.lines))
	default:
		return nil, false
	}
	return nil, true
}

// filtered does nothing: there is one message.
func (s *messageScreen) filtered(string) bool { return false }
func (s *messageScreen) filterText() string   { return "" }
