package durable

import (
	"context"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/internal/store"
)

var _ store.Measured = (*consumerHandle)(nil)

// measured is what the last Measure has read from the disk: when the message with a seq was stored.
type measured struct{ seq, at int64 }

// Measure implements store.Measured. It does not wait until what it has seen is committed: metrics of a thousand consumers would
// wait for the disk a thousand times.
func (h *consumerHandle) Measure(ctx context.Context) (m store.Measure, err error) {
	c, err := h.find()
	if err != nil {
		return m, err
	}
	if c.mayNotMatch() {
		if err := c.fill(ctx, smallRun); err != nil {
			return m, err
		}
	}
	var first int64
	var at int64
	err = c.stream.locked(func() error {
		if c.ended != nil {
			return c.ended
		}
		m, first = c.measure()
		if first != 0 && c.measured.seq == first {
			at = c.measured.at
		}
		return nil
	})
	if err != nil || first == 0 {
		return m, err
	}
	if at == 0 {
		if at, err = c.storedAt(first); err != nil {
			return m, err
		}
	}
	m.OldestAt = at
	return m, nil
}

// mayNotMatch reports whether it is not known if any message matches that the consumer has not read.
func (c *consumer) mayNotMatch() (unknown bool) {
	if c.filter.MatchesAll() {
		return false
	}
	_ = c.stream.locked(func() error {
		unknown = c.ended == nil && len(c.window.messages) == 0 && c.window.next <= c.stream.last
		return nil
	})
	return unknown
}

// measure counts, and returns the seq of the oldest message, or 0. It requires the lock.
func (c *consumer) measure() (m store.Measure, first int64) {
	c.expire(c.stream.store.clock.now())
	read := c.backlog.Measure()
	m = store.Measure{Backlog: read.Unsettled, Estimated: read.Partial, Outstanding: read.Outstanding, Delayed: read.Delayed, Waiting: c.waiting.Len()}
	first = read.Oldest
	see := func(seq int64) {
		if first == 0 {
			first = seq // what was read before is older
		}
	}
	for i := range c.window.messages {
		if seq := c.window.messages[i].Seq; c.stream.Alive(seq) && !c.backlog.SettledAhead(seq) {
			m.Backlog++
			see(seq)
		}
	}
	unread, next := c.stream.livingFrom(c.window.next)
	if unread > 0 {
		see(next)
	}
	if unread > 0 && !c.filter.MatchesAll() {
		unread, m.Estimated = c.share.Of(unread), true
	}
	m.Backlog += unread
	return m, first
}

// livingFrom returns how many messages the stream has from a seq on, and the seq of the first.
func (s *stream) livingFrom(seq int64) (n int, first int64) {
	seq = max(seq, s.first)
	if s.keyed != nil {
		s.keyed.index.Ascend(seq, func(e *keyindex.Entry) bool {
			first = e.Seq
			return false
		})
		return s.keyed.index.CountFrom(seq), first
	}
	if first = s.appended.holes.behind(seq); first > s.last {
		return 0, 0
	}
	return int(s.last - first + 1 - s.appended.holes.count(first, s.last)), first
}

// storedAt reads when a message was stored, and keeps it for the next time.
func (c *consumer) storedAt(seq int64) (at int64, err error) {
	err = c.stream.fetch([]int64{seq}, func(m *rawMessage) { at = m.updatedAt })
	if err != nil || at == 0 {
		return 0, err // it was dropped meanwhile
	}
	_ = c.stream.locked(func() error {
		c.measured = measured{seq, at}
		return nil
	})
	return at, nil
}
