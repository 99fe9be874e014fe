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
// q leaves out for its key or for a lower seq is not copied.
func (f *frozenState) views(q store.ListQuery, each func(store.View) bool) error {
	w := walk{f: f, each: each, read: f.state.Views, seen: map[backlog.Hash]bool{}}
	from := f.state.From()
	before := 0
	for before < len(w.read) && w.read[before].Seq < from {
		before++
	}
	err := f.fetch(w.read[:before], func(v backlog.View, m *rawMessage) error { return w.emit(f.view(v, m.message())) })
	if err != nil {
		return walked(err)
	}
	w.read = w.read[before:]
	w.start(from, q)
	pattern := store.NewFilter(q.Pattern)
	scanned := f.c.stream.scan(w.from, func(m *rawMessage) bool {
		if m.seq > f.last {
			return false
		}
		if !f.c.filter.Match(view(m.key)) || q.Pattern != "" && !pattern.Match(view(m.key)) {
			return true
		}
		err = w.add(m)
		return err == nil
	})
	if scanned != nil {
		return scanned
	}
	if err == nil {
		err = w.flush()
	}
	return walked(err)
}

// walk is a walk through the messages from where a consumer has read on.
type walk struct {
	f    *frozenState
	each func(store.View) bool
	read []backlog.View        // of the messages that lie before the consumer, by seq
	seen map[backlog.Hash]bool // keys of unread messages

	// Of a walk that begins in the middle, nothing is known of the keys before. Messages are collected, and then one look at
	// those before finds out which of their keys were there. The look hashes nothing, and is many times as fast as to collect all keys.
	first, from int64 // where the consumer has read on, and where the walk begins
	waiting     []collected
	bytes       int64
	atOnce      int // how many to collect
}

// collected is a message whose view waits for a look at the messages before.
type collected struct {
	message store.Message
	read    *backlog.View // nil for an unread message
}

// start makes the walk begin behind q.After. A walk for the newest messages passes by nearly all, and would look back often.
func (w *walk) start(first int64, q store.ListQuery) {
	w.first, w.from, w.atOnce = first, first, max(q.Limit, 1)
	if !q.Desc && q.After >= first {
		w.from = q.After + 1
	}
}

// add takes the next message.
func (w *walk) add(m *rawMessage) error {
	for len(w.read) > 0 && w.read[0].Seq < m.seq {
		w.read = w.read[1:] // it was dropped, or lies before the walk
	}
	c := collected{}
	if len(w.read) > 0 && w.read[0].Seq == m.seq {
		c.read, w.read = &w.read[0], w.read[1:]
	} else if !w.f.state.IsUnread(m.seq, keyHash(view(m.key))) {
		return nil
	}
	c.message = m.message()
	if w.from == w.first {
		return w.show(c)
	}
	w.waiting = append(w.waiting, c)
	if w.bytes += c.message.Size(); len(w.waiting) < w.atOnce && w.bytes < store.MaxAnswerBytes {
		return nil
	}
	return w.flush()
}

// flush shows the messages that were collected. The next time it collects more, so that it looks back a few times only.
func (w *walk) flush() error {
	keys := map[string]bool{}
	for i := range w.waiting {
		if w.waiting[i].read == nil {
			keys[w.waiting[i].message.Key] = true
		}
	}
	if err := w.lookBack(keys); err != nil {
		return err
	}
	for i := range w.waiting {
		if err := w.show(w.waiting[i]); err != nil {
			return err
		}
	}
	w.waiting, w.bytes, w.atOnce = w.waiting[:0], 0, 8*w.atOnce
	return nil
}

// lookBack finds out which of the keys an unread message has that lies before the walk.
func (w *walk) lookBack(keys map[string]bool) error {
	if len(keys) == 0 {
		return nil
	}
	return w.f.c.stream.scan(w.first, func(m *rawMessage) bool {
		if m.seq >= w.from || len(keys) == 0 {
			return false
		}
		if keys[view(m.key)] {
			if key := keyHash(view(m.key)); w.f.state.IsUnread(m.seq, key) {
				w.seen[key] = true
				delete(keys, view(m.key))
			}
		}
		return true
	})
}

// show gives a message to each.
func (w *walk) show(c collected) error {
	if c.read != nil {
		return w.emit(w.f.view(*c.read, c.message))
	}
	key := keyHash(c.message.Key)
	v := w.f.state.Unread(c.message.Seq, key, w.seen[key])
	w.seen[key] = true
	return w.emit(w.f.view(v, c.message))
}

func (w *walk) emit(v store.View) error {
	if !w.each(v) {
		return errStop
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
