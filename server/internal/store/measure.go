package store

import (
	"context"
	"errors"
	"time"
)

// Measured is an optional interface of a Consumer, for metrics.
type Measured interface {
	Consumer
	// Measure returns what the consumer has to do. It takes time for what is on lease or delayed, and for at most measureAtMost
	// messages or one read of the disk beside them, however large the backlog is. A change that runs meanwhile, or that is not
	// committed, may be seen or not.
	Measure(context.Context) (Measure, error)
}

// Measure is what a consumer has to do at a moment.
type Measure struct {
	Backlog int // messages that match its filter and are not settled, those on lease included
	// Estimated says that Backlog is an estimate: the consumer has a filter and has not read all messages, or so many wait in it, or in a
	// stream whose messages are replaced, that they are not counted.
	Estimated   bool
	Outstanding int // messages on lease, those among them that were replaced meanwhile included
	Delayed     int // messages that a nack keeps back
	Waiting     int // places in the queue
	// OldestAt is when the oldest message of the backlog was stored, in microseconds since 1970, or 0 for none. Of a consumer that has a filter and has
	// not read all messages it may be when the first message was stored that it has not read.
	OldestAt int64
}

// measureAtMost is how many messages Measure looks at beside those on lease. They take about 20 µs.
const measureAtMost = 1_000

// Share estimates which part of the messages of a stream a filter matches, by those that were read.
type Share struct{ read, matched float64 }

// shareOf is how many messages a Share is about. It halves the weight of what it knows when it has seen so many, because what is sent
// may change.
const shareOf = 100_000

// Add adds messages that were read, and how many of them matched.
func (s *Share) Add(read, matched int) {
	s.read, s.matched = s.read+float64(read), s.matched+float64(matched)
	if s.read >= shareOf {
		s.read, s.matched = s.read/2, s.matched/2
	}
}

// Known reports whether a message was read.
func (s *Share) Known() bool { return s.read > 0 }

// Of returns how many of a number of messages match. Nothing is known before the first was read: it then returns all.
func (s *Share) Of(messages int) int {
	if s.read == 0 {
		return messages
	}
	return int(float64(messages)*s.matched/s.read + 0.5)
}

// MatchesAll reports whether the filter matches every key.
func (f Filter) MatchesAll() bool { return f.rest && len(f.tokens) == 0 }

// measure returns what the consumer has to do. It requires the stream's lock.
func (c *consumer) measure() (Measure, error) {
	if c.ended != nil {
		return Measure{}, c.ended
	}
	m := c.backlog.measure(time.Now())
	m.Waiting = c.waiting.Len()
	return m, nil
}

// oldest keeps the oldest of the messages that it is shown, without those that are dead.
type oldest struct{ seq, at int64 }

func (o *oldest) see(e *entry) {
	if !e.dead && (o.seq == 0 || e.seq < o.seq) {
		o.seq, o.at = e.seq, e.updatedAt
	}
}

func (b *documentedBacklog) measure(now time.Time) Measure {
	b.expire(now)
	m := Measure{Backlog: len(b.heads) + b.later, Outstanding: b.leases.count, Delayed: len(b.delayed)}
	var first oldest
	b.leases.each(func(it *item) {
		first.see(it.entry)
		if it.entry.dead { // the version that has replaced it is counted
			m.Backlog--
			for _, e := range it.later {
				first.see(e)
				if e.dead { // it was replaced, too, and the consumer has not read by what
					m.Backlog--
				}
			}
		}
	})
	for _, it := range b.delayed {
		first.see(it.entry)
	}
	if len(b.ready) > 0 {
		first.see(b.ready[0].entry)
	}
	unread := b.feed.log.from(b.skipUnmatched())
	for i := range unread {
		if !unread[i].dead { // what was read is older
			first.see(unread[i])
			break
		}
	}
	n, exact := b.feed.log.livingOf(unread)
	m.Estimated = !exact
	if n > 0 && !b.feed.filter.MatchesAll() {
		n, m.Estimated = b.share.Of(n), true
	}
	m.Backlog += n
	m.OldestAt = first.at
	return m
}

// skipUnmatched reads messages that the filter does not match, up to the first that it does, and returns the seq of the first that
// is not read.
func (b *documentedBacklog) skipUnmatched() int64 {
	if b.feed.filter.MatchesAll() {
		return b.next
	}
	unread := b.feed.log.from(b.next)
	for _, e := range unread[:min(len(unread), measureAtMost)] {
		if !e.dead && b.feed.filter.Match(e.key) {
			break
		}
		b.read(e)
	}
	return b.next
}

// livingOf returns how many of the last entries of the log are alive. It counts up to measureAtMost of them. Of more it
// estimates, unless no entry is dead.
func (l *log) livingOf(last []*entry) (n int, exact bool) {
	all := len(l.entries) - l.head
	switch {
	case all == l.live:
		return len(last), true
	case len(last) > measureAtMost:
		return int(float64(len(last)) * float64(l.live) / float64(all)), false
	}
	for _, e := range last {
		if !e.dead {
			n++
		}
	}
	return n, true
}

func (b *aug2024Backlog) measure(now time.Time) Measure {
	b.expire(now)
	m := Measure{Backlog: len(b.rows) - b.acked, Outstanding: b.leases.count}
	var first oldest
	b.leases.each(func(it *item) { first.see(it.entry) })
	if len(b.ready) > 0 {
		first.see(b.ready[0].entry)
	}
	m.OldestAt = first.at
	return m
}

// each calls f with every item on lease, in no order.
func (l *leases) each(f func(*item)) {
	for _, q := range l.queues {
		for it := q.items.first; it != nil; it = it.next {
			f(it)
		}
	}
	for _, it := range l.extended {
		f(it)
	}
}

// Surveyed is an optional interface of a Store that reads at once what all streams hold, because each Info asks a database.
type Surveyed interface {
	Store
	// StreamInfos returns what each stream holds, newest first. With an error it returns what it could read.
	StreamInfos(context.Context) ([]StreamInfo, error)
}

// StreamInfos returns what each stream of a store holds, newest first. With an error it returns what it could read.
func StreamInfos(ctx context.Context, st Store) (all []StreamInfo, err error) {
	if surveyed, ok := st.(Surveyed); ok {
		return surveyed.StreamInfos(ctx)
	}
	streams, err := st.Streams(ctx)
	for _, s := range streams {
		info, failed := s.Info(ctx)
		switch {
		case failed == nil:
			all = append(all, info)
		case !errors.Is(failed, ErrNoStream): // it was deleted meanwhile
			err = errors.Join(err, failed)
		}
	}
	return all, err
}
