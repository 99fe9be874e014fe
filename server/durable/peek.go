package durable

import (
	"cmp"
	"errors"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// A peek copies the state of the consumer with the lock, and reads the messages without it.

// frozenState is a consumer's state at one moment.
type frozenState struct {
	c     *consumer
	state *backlog.Frozen
	last  int64 // seq of the stream
	info  store.ConsumerInfo
	wait  int // places in the queue
}

func (c *consumer) freeze() (f frozenState, err error) {
	err = c.stream.locked(func() error {
		if failed(c.ended) {
			return c.ended
		}
		c.expire(c.stream.store.clock.now())
		f = frozenState{c, c.backlog.Freeze(), c.stream.last, c.info, c.waiting.Len()}
		return nil
	})
	return f, err
}

// errStop ends a walk.
var errStop = errors.New("stop")

// views calls each with every message that is not settled and for which q may ask, by ascending seq, until each returns false. What
// q leaves out for its key or for a lower seq is not copied.
func (f *frozenState) views(q store.ListQuery, each func(store.View) bool) error {
	read, from := f.state.Views, f.state.From()
	before := 0
	for before < len(read) && read[before].Seq < from {
		before++
	}
	err := f.fetch(read[:before], func(v backlog.View, m *rawMessage) error {
		if !each(f.view(v, m.message())) {
			return errStop
		}
		return nil
	})
	if err != nil {
		return walked(err)
	}
	s := f.c.stream
	w := store.Walk{State: f.state, Hash: keyHash, Show: func(v backlog.View, m store.Message) bool { return each(f.view(v, m)) }}
	w.LookBack = func(first, before int64, keys map[string]bool, found func(string, int64)) error {
		return s.scanFor(literal(f.c.filter), first, func(m *rawMessage) bool {
			if m.seq < before && keys[view(m.key)] {
				found(string(m.key), m.seq)
			}
			return m.seq < before && len(keys) > 0
		})
	}
	pattern, text, more := store.NewFilter(q.Pattern), literal(f.c.filter), true
	if q.Pattern != "" && pattern.Literal() != "" {
		text = literal(pattern)
	}
	scanned := s.scanFor(text, w.Start(from, q), func(m *rawMessage) bool {
		if m.seq > f.last {
			return false
		}
		key := view(m.key)
		if f.c.filter.Match(key) && (q.Pattern == "" || pattern.Match(key)) && w.Wants(m.seq, key) {
			more, err = w.Add(m.message())
		}
		return more
	})
	if scanned != nil || err != nil || !more {
		return cmp.Or(scanned, err)
	}
	return w.End()
}

// literal returns the text that a record must have with a message that a filter matches, nil for any.
func literal(f store.Filter) []byte {
	if text := f.Literal(); text != "" {
		return []byte(text)
	}
	return nil
}

func walked(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// fetch reads the messages of views.
func (f *frozenState) fetch(views []backlog.View, emit func(backlog.View, *rawMessage) error) (err error) {
	for step := 1; len(views) > 0 && err == nil; step = min(2*step, 1000) {
		part := views[:min(step, len(views))]
		views = views[len(part):]
		seqs := make([]int64, len(part))
		for i, v := range part {
			seqs[i] = v.Seq
		}
		i := 0
		fetched := f.c.stream.fetch(seqs, func(m *rawMessage) {
			for part[i].Seq < m.seq {
				i++
			}
			if err == nil {
				err = emit(part[i], m)
			}
		})
		if fetched != nil {
			return fetched
		}
	}
	return err
}

// view makes the view of a message.
func (f *frozenState) view(v backlog.View, m store.Message) store.View {
	clock := f.c.stream.store.clock
	out := store.View{Message: m, Count: v.Count, State: store.State(v.State)}
	if v.State == backlog.Delivered {
		out.ID = ackID(f.c.salt, backlog.Delivery{Seq: v.Head, Lease: v.Lease})
	}
	if v.Until != 0 {
		out.NotVisibleUntil = clock.wall(v.Until).UnixMicro()
	}
	if v.LastAt != 0 {
		out.LastDeliveredAt = clock.wall(v.LastAt).UnixMicro()
	}
	return out
}

// viewOf returns the state of the newest message of a key.
func (c *consumer) viewOf(m store.Message) (store.View, error) {
	f, err := c.freeze()
	if err != nil {
		return store.View{}, err
	}
	for _, v := range f.state.Views {
		if v.Seq == m.Seq {
			return f.view(v, m), nil
		}
	}
	key := keyHash(m.Key)
	if m.Seq > f.last || !f.state.IsUnread(m.Seq, key) {
		return store.View{Message: m, State: store.Acked}, nil
	}
	earlier := false
	err = c.stream.scanFor([]byte(m.Key), f.state.From(), func(o *rawMessage) bool {
		earlier = o.seq < m.Seq && view(o.key) == m.Key && f.state.IsUnread(o.seq, key)
		return o.seq < m.Seq && !earlier
	})
	return f.view(f.state.Unread(m.Seq, key, earlier), m), err
}

func (c *consumer) peek(q store.PeekQuery) ([]store.View, error) {
	f, err := c.freeze()
	if err != nil || q.Limit <= 0 {
		return nil, err
	}
	p := store.NewPeeked(q)
	err = f.views(q.ListQuery, p.Add)
	return p.Views(), err
}

// inspect returns a copy of the consumer's state.
func (c *consumer) inspect() (s store.ConsumerState, err error) {
	f, err := c.freeze()
	if err != nil {
		return s, err
	}
	s = store.ConsumerState{Info: f.info, Waiting: f.wait}
	err = f.views(store.ListQuery{}, func(v store.View) bool {
		switch v.State {
		case store.Available:
			s.Available++
		case store.Delayed:
			s.Delayed++
		}
		return true
	})
	if err != nil {
		return s, err
	}
	return s, f.outstanding(&s)
}

// outstanding adds the leases. That of a message that was replaced has no data any more.
func (f *frozenState) outstanding(s *store.ConsumerState) error {
	clock := f.c.stream.store.clock
	messages := map[int64]store.Message{}
	seqs := make([]int64, len(f.state.Leases))
	for i, v := range f.state.Leases {
		seqs[i] = v.Seq
	}
	if err := f.c.stream.fetch(seqs, func(m *rawMessage) { messages[m.seq] = m.message() }); err != nil {
		return err
	}
	s.Outstanding = make([]store.Outstanding, 0, len(seqs))
	for _, v := range f.state.Leases {
		m, ok := messages[v.Seq]
		if !ok {
			m = store.Message{Seq: v.Seq}
		}
		id := ackID(f.c.salt, backlog.Delivery{Seq: v.Seq, Lease: v.Lease})
		s.Outstanding = append(s.Outstanding, store.Outstanding{
			Delivery: store.Delivery{Message: m, ID: id, Count: v.Count, At: clock.wall(v.LastAt)},
			Until:    clock.wall(v.Until),
		})
	}
	return nil
}
