package durable

import (
	"github.com/sequin-go/sequin/server/internal/backlog"
)

// seekStep is how many messages are read for keys that seek before a record says what was found.
const seekStep = 100_000

// seek reads the stream for the keys of which the backlog has left out messages, from where the first of them left out one.
// It is called without the lock.
func (c *consumer) seek() error {
	found := map[backlog.Hash]*backlog.Sought{}
	var from, before int64
	_ = c.stream.locked(func() error {
		before = c.backlog.Next()
		from = before
		c.backlog.Seeking(func(key backlog.Hash, more int64) {
			found[key] = &backlog.Sought{Key: key, More: more}
			from = min(from, more)
		})
		return nil
	})
	next := from
	err := c.stream.scan(from, func(m *rawMessage) bool {
		if m.seq >= before {
			next = before
			return false
		}
		next = m.seq + 1
		if s := found[keyHash(view(m.key))]; s != nil && m.seq >= s.More {
			s.Seqs = append(s.Seqs, m.seq)
		}
		return next-from < seekStep
	})
	if err != nil {
		return err
	}
	if next-from < seekStep {
		next = before // the scan has ended
	}
	return c.stream.locked(func() error {
		c.foundUpTo(found, next, before)
		return nil
	})
}

// foundUpTo records what was found below next, of what the backlog has read below before.
func (c *consumer) foundUpTo(found map[backlog.Hash]*backlog.Sought, next, before int64) {
	if c.ended != nil {
		return
	}
	var list []backlog.Sought
	c.backlog.Seeking(func(key backlog.Hash, more int64) {
		s := found[key]
		switch {
		case s == nil || s.More != more:
			return // another receive was faster
		case next >= before && before == c.backlog.Next():
			s.More = 0
		case next > s.More:
			s.More = next
		default:
			return // the scan has not come to it
		}
		list = append(list, *s)
	})
	if len(list) > 0 {
		now := c.stream.store.clock.now()
		c.receive(c.backlog.PlanSeek(now, c.stream.store.options.maxMet, list), nil)
	}
}
