package observe

import (
	"context"
	"fmt"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// unsettledScreen lists what a consumer has not settled, the oldest first: what is stuck.
type unsettledScreen struct {
	m                *Model
	stream, consumer string
	pages            pages
	got              []sequin.PeekedMessage
	list             list
}

func newUnsettledScreen(m *Model, stream, consumer string) *unsettledScreen {
	return &unsettledScreen{m: m, stream: stream, consumer: consumer, pages: pages{oldest: true}, list: list{empty: "Asking the server ..."}}
}

func (s *unsettledScreen) title() string { return visible(s.consumer) }

func (s *unsettledScreen) ask() func(context.Context) (any, error) {
	q := s.pages.query()
	return func(ctx context.Context) (any, error) { return s.m.cfg.Watcher.Unsettled(ctx, s.stream, s.consumer, q) }
}

func (s *unsettledScreen) answered(value any) {
	s.got = value.([]sequin.PeekedMessage)
	s.list.empty = "Nothing is stuck: all messages are settled."
	if s.pages.pattern != "" {
		s.list.empty = "No unsettled message has such a key."
	}
	now := s.m.cfg.Now()
	rows := make([]row, len(s.got))
	for i, p := range s.got {
		rows[i] = row{p.Message.Key + " " + fmt.Sprint(p.Message.Seq), []string{fmt.Sprint(p.Message.Seq), visible(p.Message.Key), visible(p.Info.State),
			fmt.Sprint(max(0, p.Info.DeliverCount)), age(now.Sub(p.Message.UpdatedAt)), cli.Left(now, p.Info.NotVisibleUntil), cli.Cut(p.Message.Data, dataShown)}}
	}
	s.list.set([]column{{"SEQ", 10, true}, {"KEY", 0, false}, {"STATE", 9, false}, {"TRIES", 5, true}, {"AGE", 5, true}, {"FOR", 5, true}, {"DATA", 0, false}}, rows)
}

// age returns how old something is. Clocks differ: what is from the future is new.
func age(d time.Duration) string { return short(max(0, d)) }

// why says what a message waits for.
func why(i sequin.DeliveryInfo, now time.Time) string {
	left := cli.Left(now, i.NotVisibleUntil)
	switch i.State {
	case sequin.StateAvailable:
		return "available: " + overview.NotSettled(&i, now)
	case sequin.StateDelivered, sequin.StatePending:
		return "with a program, whose lease ends in " + left
	case sequin.StateWithheld:
		return "waits for an earlier message of its key"
	case sequin.StateDelayed:
		return "kept back by a nack, for " + left
	case sequin.StatePendingRedelivery:
		return "replaced while a program had it"
	case sequin.StateAcked:
		return "settled"
	}
	return visible(i.State)
}

func (s *unsettledScreen) summary() string {
	if s.list.selected() == "" {
		return s.pages.text()
	}
	return why(s.got[s.list.cursor].Info, s.m.cfg.Now()) + "; " + s.pages.text()
}

func (s *unsettledScreen) body(width, height int) string { return s.list.view(width, height) }

func (s *unsettledScreen) keys() []binding {
	return append([]binding{{"enter", "message"}, {"x", "nack"}}, pageKeys...)
}

func (s *unsettledScreen) press(key string) (tea.Cmd, bool) {
	last := int64(0)
	if len(s.got) == pageSize && s.m.server.Has("paging") {
		last = s.got[len(s.got)-1].Message.Seq
	}
	switch {
	case s.list.press(key):
		return nil, true
	case s.pages.press(key, last):
		s.list.reset()
		s.m.asking = nil
		return s.m.ask(), true
	case s.list.selected() == "":
		return nil, false
	case key == "enter", key == "right", key == "l":
		return s.m.open(newMessageScreen(s.m, s.stream, &s.got[s.list.cursor].Message)), true
	case key == "x":
		return s.m.nack(s.stream, s.consumer, s.got[s.list.cursor]), true
	}
	return nil, false
}

func (s *unsettledScreen) filtered(text string) bool {
	s.list.reset()
	return s.pages.filtered(text)
}

func (s *unsettledScreen) filterText() string { return s.pages.pattern }
