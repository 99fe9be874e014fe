package storetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sequin-go/sequin/server/internal/store"
)

// This file says what the model shows, as text.

// list returns the live messages.
func (m *model) list() []string {
	out := []string{}
	for _, x := range m.live() {
		out = append(out, fmt.Sprint(x.seq, " ", x.key, "=", x.data, x.headers))
	}
	return out
}

// newest returns the newest message of a key, or nil.
func (m *model) newest(key string) *modelMessage {
	live := m.live()
	for _, x := range slices.Backward(live) {
		if x.key == key {
			return x
		}
	}
	return nil
}

// views returns the messages of a consumer that are not settled, with their state, their ack id and their count.
func (c *modelConsumer) views() []string {
	c.expire()
	out := []string{}
	for _, x := range c.model.live() {
		if view := c.view(x); view != "" {
			out = append(out, fmt.Sprint(x.seq, " ", x.key, " ", view))
		}
	}
	return out
}

// view returns the state of a live message, or "" when it is settled or the filter does not match it.
func (c *modelConsumer) view(x *modelMessage) string {
	s := c.states[x.seq]
	switch {
	case !c.filter.Match(x.key) || x.seq < c.start || s != nil && s.done:
		return ""
	case s != nil && s.onLease():
		return leasedView(s)
	case s != nil && s.isDelayed():
		return fmt.Sprint(words[store.Delayed], " ", s.count, " ", s.delayed.UnixMicro())
	case c.deliverable(x) && s != nil:
		return fmt.Sprint(words[store.Available], " ", s.count)
	case c.deliverable(x):
		return words[store.Available] + " 0"
	}
	// A version that replaced one on lease is shown with that lease.
	for _, older := range c.states {
		if older.message.key == x.key && older.message.dead && older.onLease() {
			return leasedView(older)
		}
	}
	return words[store.Withheld] + " 0"
}

func leasedView(s *modelState) string {
	return fmt.Sprint(words[store.Delivered], " ", s.count, " ", s.id, " ", s.until.UnixMicro())
}

// viewText is the text of a View, as the model's.
func viewText(v store.View) string {
	text := fmt.Sprint(words[v.State], " ", v.Count)
	switch v.State {
	case store.Delivered:
		text += fmt.Sprint(" ", v.ID, " ", v.NotVisibleUntil)
	case store.Delayed:
		text += fmt.Sprint(" ", v.NotVisibleUntil)
	}
	return text
}

// rememberedSend is a send that the model remembers.
type rememberedSend struct {
	body      string
	published int
}

// sendOnce is send with the rules for repeats and parts.
func (m *model) sendOnce(o store.Once, messages []store.Message) (int, error) {
	if k, known := m.sent[o.Key]; known {
		if k.body != string(o.Body) {
			return 0, store.ErrOtherBody
		}
		return k.published, nil
	}
	published := -1
	for _, whole := range o.PartOf {
		if k, known := m.sent[whole]; known {
			published = min(len(messages), k.published)
			break
		}
	}
	if published < 0 {
		var err error
		if published, err = m.send(messages); err != nil {
			return 0, err
		}
	}
	if o.Key != "" {
		m.sent[o.Key] = rememberedSend{strings.Clone(string(o.Body)), published}
	}
	return published, nil
}
