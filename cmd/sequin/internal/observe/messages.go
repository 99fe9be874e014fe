package observe

import (
	"context"
	"fmt"
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// pageSize is how many messages are asked for at once. It is more than a terminal has lines.
const pageSize = 100

// dataShown is how many characters of the data a list shows.
const dataShown = 200

// pages are the pages of a list of messages. The first is asked for again and again, and another is kept until it is left.
type pages struct {
	pattern string
	oldest  bool
	beyond  []int64 // the last seqs of the pages before this one
}

func (p *pages) query() overview.Query {
	q := overview.Query{Pattern: p.pattern, Oldest: p.oldest, Limit: pageSize}
	if n := len(p.beyond); n > 0 {
		q.Beyond = p.beyond[n-1]
	}
	return q
}

// press changes the page. last is the seq of the last message of this page, or 0 if no other follows.
func (p *pages) press(key string, last int64) (again bool) {
	switch {
	case (key == "]" || key == "N") && last != 0:
		p.beyond = append(p.beyond, last)
	case (key == "[" || key == "P") && len(p.beyond) > 0:
		p.beyond = p.beyond[:len(p.beyond)-1]
	default:
		return false
	}
	return true
}

func (p *pages) filtered(text string) (again bool) {
	p.pattern, p.beyond = text, nil
	return true
}

func (p *pages) text() string {
	order := "newest first"
	if p.oldest {
		order = "oldest first"
	}
	return fmt.Sprintf("page %d, %s", len(p.beyond)+1, order)
}

var pageKeys = []binding{{"/", "key pattern"}, {"]", "next page"}, {"[", "page before"}}

// messagesScreen lists the messages of a stream.
type messagesScreen struct {
	m      *Model
	stream string
	below  bool // the screen of the stream is the one before
	pages  pages
	got    []sequin.StoredMessage
	list   list
}

func newMessagesScreen(m *Model, stream string) *messagesScreen {
	_, below := m.top().(*consumersScreen)
	return &messagesScreen{m: m, stream: stream, below: below, list: list{empty: "Asking the server ..."}}
}

func (s *messagesScreen) title() string {
	if s.below {
		return "messages"
	}
	return visible(s.stream) + " > messages"
}

func (s *messagesScreen) ask() func(context.Context) (any, error) {
	q := s.pages.query()
	return func(ctx context.Context) (any, error) { return s.m.cfg.Watcher.Messages(ctx, s.stream, q) }
}

func (s *messagesScreen) answered(value any) {
	s.got = value.([]sequin.StoredMessage)
	s.list.empty = "There are no messages."
	if s.pages.pattern != "" {
		s.list.empty = "No key matches the pattern."
	}
	now := s.m.cfg.Now()
	rows := make([]row, len(s.got))
	for i, msg := range s.got {
		rows[i] = row{msg.Key + " " + fmt.Sprint(msg.Seq), []string{fmt.Sprint(msg.Seq), visible(msg.Key), age(now.Sub(msg.UpdatedAt)), cli.Cut(msg.Data, dataShown)}}
	}
	s.list.set([]column{{"SEQ", 10, true}, {"KEY", 0, false}, {"AGE", 5, true}, {"DATA", 0, false}}, rows)
}

func (s *messagesScreen) summary() string { return s.pages.text() }

func (s *messagesScreen) body(width, height int) string { return s.list.view(width, height) }

func (s *messagesScreen) keys() []binding {
	return append([]binding{{"enter", "message"}}, append(slices.Clone(pageKeys), binding{"o", "order"}, binding{"t", "test message"})...)
}

func (s *messagesScreen) press(key string) (tea.Cmd, bool) {
	last := int64(0)
	if len(s.got) == pageSize && s.m.server.Has("paging") {
		last = s.got[len(s.got)-1].Seq
	}
	switch {
	case s.list.press(key):
		return nil, true
	case key == "o":
		s.pages.oldest, s.pages.beyond = !s.pages.oldest, nil
		return s.again(), true
	case s.pages.press(key, last):
		return s.again(), true
	case key == "t":
		return s.m.sendTest(s.stream), true
	case (key == "enter" || key == "right" || key == "l") && s.list.selected() != "":
		return s.m.open(newMessageScreen(s.m, s.stream, &s.got[s.list.cursor])), true
	}
	return nil, false
}

// again asks for other messages.
func (s *messagesScreen) again() tea.Cmd {
	s.list.reset()
	s.m.asking = nil
	return s.m.ask()
}

func (s *messagesScreen) filtered(text string) bool {
	s.list.reset()
	return s.pages.filtered(text)
}

func (s *messagesScreen) filterText() string { return s.pages.pattern }
