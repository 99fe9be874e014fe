package durable

import (
	"slices"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// found is the newest message of a key.
type found struct {
	message store.Message
	ok      bool
}

// get returns the newest message of a key, and the record that must be committed before it may be shown. It is called
// without the lock. A stream that appends has no index by key: it is read from its end.
func (s *stream) get(key string) (m found, seen seglog.Pos, err error) {
	if s.keyed != nil {
		seq := int64(0)
		if err := s.snapshot(func() {
			if e := s.keyed.index.Find(keyindex.Hash(hashOf(key))); e != nil {
				seq = e.Seq
			}
		}); err != nil || seq == 0 {
			return m, s.seen(), err
		}
		err = s.fetch([]int64{seq}, func(raw *rawMessage) { m = found{raw.message(), true} })
		if err == nil && !m.ok {
			return s.get(key) // it was replaced meanwhile
		}
	} else if err = s.snapshot(func() {}); err == nil {
		err = s.scanBack([]byte(key), 0, 1<<62, func(m *rawMessage) bool { return view(m.key) == key }, func(newest *store.Message) bool {
			m = found{*newest, true}
			return false
		})
	}
	return m, s.seen(), err
}

// snapshot calls f with the lock, unless the state is gone.
func (s *stream) snapshot(f func()) error {
	return s.locked(func() error {
		if failed(s.ended) {
			return s.ended
		}
		f()
		return nil
	})
}

// seen returns the newest record that stored or dropped messages. What was read before is not newer.
func (s *stream) seen() (pos seglog.Pos) {
	_ = s.locked(func() error { pos = s.stored; return nil })
	return pos
}

// list returns the messages that a query asks for.
func (s *stream) list(q store.ListQuery) (out []store.Message, seen seglog.Pos, err error) {
	if err := s.snapshot(func() {}); err != nil {
		return nil, 0, err
	}
	out = make([]store.Message, 0, min(q.Limit, 1000))
	f := store.NewFilter(q.Pattern)
	bytes := int64(0)
	take := func(m store.Message) bool {
		out = append(out, m)
		bytes += m.Size()
		return len(out) < q.Limit && bytes < store.MaxAnswerBytes
	}
	matches := func(key string) bool { return q.Pattern == "" || f.Match(key) }
	text := literal(f)
	switch {
	case q.Limit <= 0:
	case q.Desc:
		before := q.Before
		if before <= 0 {
			before = 1 << 62
		}
		err = s.scanBack(text, q.After, before, func(m *rawMessage) bool { return matches(view(m.key)) }, func(m *store.Message) bool { return take(*m) })
	default:
		err = s.scanFor(text, q.After+1, func(m *rawMessage) bool {
			if q.Before > 0 && m.seq >= q.Before {
				return false
			}
			return !matches(view(m.key)) || take(m.message())
		})
	}
	return out, s.seen(), err
}

// states returns the newest message of a key and its state at every consumer whose filter matches.
func (s *stream) states(key string) (store.Message, []store.ConsumerView, seglog.Pos, error) {
	m, _, err := s.get(key)
	if err != nil {
		return store.Message{}, nil, 0, err
	}
	if !m.ok {
		return store.Message{}, nil, s.seen(), store.ErrNoMessage
	}
	var consumers []*consumer
	if err := s.snapshot(func() { consumers = slices.Clone(s.consumers) }); err != nil {
		return store.Message{}, nil, 0, err
	}
	var views []store.ConsumerView
	for _, c := range consumers {
		if !c.filter.Match(key) {
			continue
		}
		v, err := c.viewOf(m.message)
		if err != nil {
			return store.Message{}, nil, 0, err
		}
		views = append(views, store.ConsumerView{ConsumerID: c.info.ID, Name: c.info.Name, Filter: c.info.Filter, View: v})
	}
	var pos seglog.Pos
	_ = s.locked(func() error { pos = s.newest; return nil })
	return m.message, views, pos, nil
}
