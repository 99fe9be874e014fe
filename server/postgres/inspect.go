package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// frozen is a consumer's state at one moment.
type frozen struct {
	h     *consumer
	state *backlog.Frozen
	salt  uint32
	top   streamTop
}

// freeze copies the state of the consumer.
func (h *consumer) freeze(ctx context.Context) (*frozen, error) {
	e := h.engine()
	f := &frozen{h: h, salt: e.salt}
	err := e.ask(ctx, &request{always: true, do: func(t *transaction) error {
		if err := t.seek(); err != nil {
			return err
		}
		f.top = t.top
		if !e.state.keyed {
			f.state = e.state.Freeze()
			return nil
		}
		if err := t.readAll(); err != nil {
			return err
		}
		if err := t.sweep(true); err != nil {
			return err
		}
		return t.freezeKeyed(f)
	}})
	return f, err
}

// readAll looks for messages that the consumer has not read and that have replaced some that it has. They become available.
func (t *transaction) readAll() error {
	t.begun, t.window = false, nil
	for !t.begun || t.next != 0 {
		if _, err := t.readWindow(); err != nil {
			return err
		}
		t.window = nil
	}
	t.begun = false
	return nil
}

// freezeKeyed copies the state while those messages count as dead that were replaced.
func (t *transaction) freezeKeyed(f *frozen) error {
	s := t.e.state
	var all []int64
	for _, v := range append(s.Views(), s.Leases()...) {
		all = append(all, v.Seq)
	}
	gone, err := t.missing(all)
	if err != nil {
		return err
	}
	s.dead = make(map[int64]bool, len(gone))
	for _, seq := range gone {
		s.dead[seq] = true
	}
	f.state = s.Freeze()
	s.dead = nil
	return nil
}

// views calls f with every message that is not settled, by ascending seq, until f returns false.
func (f *frozen) views(s *session, each func(store.View) bool) error {
	read, from := f.state.Views, f.state.From()
	before := 0
	for before < len(read) && read[before].Seq < from {
		before++
	}
	stop, err := f.fetch(s, read[:before], each)
	if err != nil || stop {
		return err
	}
	return f.scan(s, from, read[before:], each)
}

// fetch reads the messages of views.
func (f *frozen) fetch(s *session, views []backlog.View, each func(store.View) bool) (stop bool, err error) {
	for part := range slices.Chunk(views, readRows) {
		seqs := make([]int64, len(part))
		for i, v := range part {
			seqs[i] = v.Seq
		}
		found, err := f.h.st.fetch(s, f.h.row.stream, seqs)
		if err != nil {
			return false, err
		}
		for _, v := range part {
			if m, ok := found[v.Seq]; ok && m.Seq >= f.top.trim && !each(f.view(v, m)) {
				return true, nil
			}
		}
	}
	return false, nil
}

// scan reads the stream from a seq on. read are the views from there on that the state has.
func (f *frozen) scan(s *session, from int64, read []backlog.View, each func(store.View) bool) error {
	filter := store.NewFilter(f.h.row.Filter)
	seen := map[backlog.Hash]bool{} // keys of unread messages
	for seq := max(from, f.top.trim); seq > 0 && seq < f.top.next; {
		messages, next, err := f.h.st.readRun(s, f.h.row.stream, seq, readRows)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Seq >= f.top.next {
				return nil
			}
			if !filter.Match(m.Key) {
				continue
			}
			for len(read) > 0 && read[0].Seq < m.Seq {
				read = read[1:] // it is gone
			}
			key := keyHash(m.Key)
			var v backlog.View
			switch {
			case len(read) > 0 && read[0].Seq == m.Seq:
				v = read[0]
			case f.state.IsUnread(m.Seq, key):
				v = f.state.Unread(m.Seq, key, seen[key])
				seen[key] = true
			default:
				continue
			}
			if !each(f.view(v, m)) {
				return nil
			}
		}
		seq = next
	}
	return nil
}

// view makes the view of a message.
func (f *frozen) view(v backlog.View, m store.Message) store.View {
	out := store.View{Message: m, Count: v.Count, State: store.State(v.State), NotVisibleUntil: v.Until / 1000, LastDeliveredAt: v.LastAt / 1000}
	if v.State == backlog.Delivered {
		out.ID = ackID(f.salt, backlog.Delivery{Seq: v.Head, Lease: v.Lease})
	}
	return out
}

func (h *consumer) Peek(ctx context.Context, q store.PeekQuery) (views []store.View, err error) {
	if q.Limit <= 0 {
		return nil, nil
	}
	f, err := h.freeze(ctx)
	if err != nil {
		return nil, err
	}
	p := store.NewPeeked(q)
	err = h.st.query(ctx, func(s *session) error {
		*p = *store.NewPeeked(q) // the query may be repeated
		return f.views(s, p.Add)
	})
	return p.Views(), err
}

func (h *consumer) State(ctx context.Context) (state store.ConsumerState, err error) {
	f, err := h.freeze(ctx)
	if err != nil {
		return state, err
	}
	info, err := h.Info(ctx)
	if err != nil {
		return state, err
	}
	err = h.st.query(ctx, func(s *session) error {
		state = store.ConsumerState{Info: info, Waiting: h.engine().places.len()}
		err := f.views(s, func(v store.View) bool {
			switch v.State {
			case store.Available:
				state.Available++
			case store.Delayed:
				state.Delayed++
			}
			return true
		})
		if err != nil {
			return err
		}
		return f.outstanding(s, &state)
	})
	return state, err
}

// outstanding adds the leases. That of a message that was replaced has no data any more.
func (f *frozen) outstanding(s *session, state *store.ConsumerState) error {
	seqs := make([]int64, len(f.state.Leases))
	for i, v := range f.state.Leases {
		seqs[i] = v.Seq
	}
	found, err := f.h.st.fetch(s, f.h.row.stream, seqs)
	if err != nil {
		return err
	}
	state.Outstanding = make([]store.Outstanding, 0, len(seqs))
	for _, v := range f.state.Leases {
		m, ok := found[v.Seq]
		if !ok {
			m = store.Message{Seq: v.Seq}
		}
		id := ackID(f.salt, backlog.Delivery{Seq: v.Seq, Lease: v.Lease})
		state.Outstanding = append(state.Outstanding, store.Outstanding{
			Delivery: store.Delivery{Message: m, ID: id, Count: v.Count, At: wallTime(v.LastAt / 1000)},
			Until:    wallTime(v.Until / 1000),
		})
	}
	return nil
}

func (h *stream) States(ctx context.Context, key string) (m store.Message, views []store.ConsumerView, err error) {
	if m, err = h.Get(ctx, key); err != nil {
		return m, nil, err
	}
	consumers, err := h.Consumers(ctx)
	if err != nil {
		return m, nil, err
	}
	for _, c := range consumers {
		c := c.(*consumer)
		if !store.NewFilter(c.row.Filter).Match(key) {
			continue
		}
		v, err := c.viewOf(ctx, m)
		if errors.Is(err, store.ErrNoConsumer) {
			continue
		}
		if err != nil {
			return m, nil, err
		}
		views = append(views, store.ConsumerView{ConsumerID: c.ID(), Name: c.row.Name, Filter: c.row.Filter, View: v})
	}
	return m, views, nil
}

// viewOf returns the state of the newest message of a key.
func (h *consumer) viewOf(ctx context.Context, m store.Message) (view store.View, err error) {
	f, err := h.freeze(ctx)
	if err != nil {
		return view, err
	}
	key := keyHash(m.Key)
	for _, v := range f.state.Views {
		if v.Seq == m.Seq {
			return f.view(v, m), nil
		}
	}
	if !f.state.IsUnread(m.Seq, key) {
		return store.View{Message: m, State: store.Acked}, nil
	}
	earlier := false
	err = h.st.query(ctx, func(s *session) error {
		for seq := max(f.state.From(), f.top.trim); seq > 0 && seq < m.Seq && !earlier; {
			messages, next, err := h.st.readRun(s, h.row.stream, seq, readRows)
			if err != nil {
				return err
			}
			for _, o := range messages {
				earlier = earlier || o.Seq < m.Seq && o.Key == m.Key && f.state.IsUnread(o.Seq, key)
			}
			seq = next
		}
		return nil
	})
	return f.view(f.state.Unread(m.Seq, key, earlier), m), err
}
