package durable

import (
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
// q leaves out for its key or for a lower seq is not copied, so that a peek into the middle of a large backlog takes no longer than
// a walk through it.
func (f *frozenState) views(q store.ListQuery, each func(store.View) bool) error {
	pattern := store.NewFilter(q.Pattern)
	read := f.state.Views
	emit := func(v backlog.View, m *rawMessage) error {
		if !each(f.view(v, m.message())) {
			return errStop
		}
		return nil
	}
	from, err := f.state.From(), error(nil)
	seen := map[backlog.Hash]bool{} // keys of unread messages
	if len(read) > 0 && read[0].Seq < from {
		before := 0
		for before < len(read) && read[before].Seq < from {
			before++
		}
		if err = f.fetch(read[:before], emit); err != nil {
			return walked(err)
		}
		read = read[before:]
	}
	scanned := f.c.stream.scan(from, func(m *rawMessage) bool {
		if m.seq > f.last {
			return false
		}
		if !f.c.filter.Match(view(m.key)) || q.Pattern != "" && !pattern.Match(view(m.key)) {
			return true
		}
		for len(read) > 0 && read[0].Seq < m.seq {
			read = read[1:] // it was dropped
		}
		if len(read) > 0 && read[0].Seq == m.seq {
			err = emit(read[0], m)
			read = read[1:]
			return err == nil
		}
		key := keyHash(view(m.key))
		if !f.state.IsUnread(m.seq, key) {
			return true
		}
		if m.seq > q.After {
			err = emit(f.state.Unread(m.seq, key, seen[key]), m)
		}
		seen[key] = true
		return err == nil
	})
	if scanned != nil {
		return scanned
	}
	return walked(err)
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
