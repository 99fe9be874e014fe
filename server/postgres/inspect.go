package postgres

import (
	"cmp"
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

// views calls each with every message that is not settled and for which q may ask, by ascending seq, until each returns false.
func (f *frozen) views(s *session, q store.ListQuery, each func(store.View) bool) error {
	read, from := f.state.Views, f.state.From()
	before := 0
	for before < len(read) && read[before].Seq < from {
		before++
	}
	stop, err := f.fetch(s, read[:before], each)
	if err != nil || stop {
		return err
	}
	return f.scan(s, max(from, f.top.trim), q, each)
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

// scan reads the stream from a seq on.
func (f *frozen) scan(s *session, from int64, q store.ListQuery, each func(store.View) bool) error {
	filter, pattern := store.NewFilter(f.h.row.Filter), store.NewFilter(q.Pattern)
	text := cmp.Or(pattern.Literal(), filter.Literal())
	w := store.Walk{State: f.state, Hash: keyHash, Show: func(v backlog.View, m store.Message) bool { return each(f.view(v, m)) }}
	w.LookBack = func(first, before int64, keys map[string]bool, found func(string, int64)) error {
		return f.lookBack(s, filter.Literal(), first, before, keys, found)
	}
	for seq := w.Start(from, q); seq > 0 && seq < f.top.next; {
		messages, next, err := f.h.st.readRunWith(s, f.h.row.stream, text, seq, readRows)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Seq >= f.top.next {
				return w.End()
			}
			if !filter.Match(m.Key) || q.Pattern != "" && !pattern.Match(m.Key) || !w.Wants(m.Seq, m.Key) {
				continue
			}
			if more, err := w.Add(m); err != nil || !more {
				return err
			}
		}
		seq = next
	}
	return w.End()
}

// lookBack calls found for messages whose key is in keys, and contains text. It reads keys only. In a stream with one message per key no message has an
// earlier one.
func (f *frozen) lookBack(s *session, text string, first, before int64, keys map[string]bool, found func(string, int64)) error {
	st, id := f.h.st, f.h.row.stream.id
	for seq := first; !f.h.row.stream.OneMessagePerKey && seq < before && len(keys) > 0; {
		rows, err := st.queryKeysWith(s, id, text, seq, lookBackChunks)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			in := readKeys(r.first, r.n, r.keys)
			for in != nil && in.read() {
				if key := in.keys[in.begin : in.begin+in.key]; in.seq >= seq && in.seq < before && keys[string(key)] {
					found(string(key), in.seq)
				}
			}
			if in == nil || !in.whole() {
				return damagedChunk(id, r.first)
			}
		}
		seq = rows[len(rows)-1].next()
	}
	return nil
}

// lookBackChunks is how many chunks a statement of lookBack reads: about 2 MB of keys of a full stream.
const lookBackChunks = 64

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
		return f.views(s, q.ListQuery, p.Add)
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
		err := f.views(s, store.ListQuery{}, func(v store.View) bool {
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
		keys := map[string]bool{m.Key: true}
		return f.lookBack(s, m.Key, max(f.state.From(), f.top.trim), m.Seq, keys, func(_ string, seq int64) {
			if earlier = earlier || f.state.IsUnread(seq, key); earlier {
				clear(keys)
			}
		})
	})
	return f.view(f.state.Unread(m.Seq, key, earlier), m), err
}
