package durable

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// streamHandle is a store.Stream. After a failed write the store reads its state again: the handle then finds its stream by
// its number.
type streamHandle struct{ current atomic.Pointer[stream] }

var (
	_ store.Extended       = (*Store)(nil)
	_ store.ExtendedStream = (*streamHandle)(nil)
	_ store.Copyable       = (*Store)(nil)
	_ store.CopyableStream = (*streamHandle)(nil)
)

func newStreamHandle(s *stream) *streamHandle {
	h := &streamHandle{}
	h.current.Store(s)
	return h
}

func (h *streamHandle) stream() *stream {
	s := h.current.Load()
	g := s.store.streams.Load()
	if s.registry == g {
		return s
	}
	if again := g.number(s.sid); again != nil {
		h.current.Store(again)
		return again
	}
	return s
}

// look calls f with the lock, and then waits until everything is committed that f has seen. f returns the newest of it.
func (s *stream) look(ctx context.Context, f func() (seglog.Pos, error)) error {
	var pos seglog.Pos
	err := s.locked(func() (err error) {
		if failed(s.ended) {
			return s.ended
		}
		pos, err = f()
		return err
	})
	if waited := s.store.committed(ctx, pos); waited != nil {
		return waited
	}
	return err
}

// change waits until there is room in the log, calls f with the lock, and waits until the record that f has appended is
// committed. When f fails it waits for what f has seen.
func (s *stream) change(ctx context.Context, f func() (seglog.Pos, error)) error {
	if err := s.store.log.WaitRoom(ctx); err != nil {
		return err
	}
	return s.look(ctx, f)
}

func (h *streamHandle) ID() string { return h.current.Load().id }

func (h *streamHandle) Info(ctx context.Context) (info store.StreamInfo, err error) {
	s := h.stream()
	err = s.look(ctx, func() (seglog.Pos, error) {
		info = s.info()
		return s.newest, nil
	})
	return info, err
}

func (h *streamHandle) Delete(ctx context.Context) error {
	s := h.stream()
	return s.change(ctx, func() (seglog.Pos, error) {
		err := s.registry.remove(s, func() seglog.Pos { return s.record(kindDeleteStream, nil) })
		if err == nil {
			s.end(store.ErrNoStream)
		}
		return s.newest, err
	})
}

func (h *streamHandle) Send(ctx context.Context, o store.Once, messages []store.Message) (int, error) {
	s := h.stream()
	send := newSending(s, o, messages)
	defer send.release()
	return send.run(ctx)
}

func (h *streamHandle) Get(ctx context.Context, key string) (m store.Message, err error) {
	s := h.stream()
	found, pos, err := s.get(key)
	if err != nil {
		return m, err
	}
	if err := s.store.committed(ctx, pos); err != nil {
		return m, err
	}
	if !found.ok {
		return m, store.ErrNoMessage
	}
	return found.message, nil
}

func (h *streamHandle) List(ctx context.Context, q store.ListQuery) ([]store.Message, error) {
	s := h.stream()
	all, pos, err := s.list(q)
	if err != nil {
		return nil, err
	}
	return all, s.store.committed(ctx, pos)
}

func (h *streamHandle) States(ctx context.Context, key string) (store.Message, []store.ConsumerView, error) {
	s := h.stream()
	m, views, pos, err := s.states(key)
	if waited := s.store.committed(ctx, pos); waited != nil {
		return store.Message{}, nil, waited
	}
	return m, views, err
}

func (h *streamHandle) Purge(ctx context.Context, q store.PurgeQuery) (int, error) {
	p := purging{s: h.stream(), query: q, filter: store.NewFilter(q.Pattern)}
	return p.run(ctx)
}

func (h *streamHandle) SeqAt(ctx context.Context, at time.Time) (int64, error) {
	s := h.stream()
	seq, pos, err := s.seqAt(at.UnixMicro())
	if err != nil {
		return 0, err
	}
	return seq, s.store.committed(ctx, pos)
}

func (h *streamHandle) CreateConsumer(ctx context.Context, o store.ConsumerOptions) (store.Consumer, error) {
	s := h.stream()
	var c *consumer
	err := s.change(ctx, func() (seglog.Pos, error) {
		if err := s.unchangeable(); err != nil {
			return s.newest, err
		}
		if slices.ContainsFunc(s.consumers, func(c *consumer) bool { return c.info.Name == o.Name }) {
			return s.newest, store.ErrNameTaken
		}
		o.Start = o.StartIn(s.last)
		r := consumerRecord{cid: s.nextCID, id: uuid.NewString(), at: time.Now().UnixNano(), options: o}
		pos := s.record(r.kind(), r.appendTo(nil))
		c = s.applyCreateConsumer(&r, pos)
		return pos, nil
	})
	if err != nil {
		return nil, err
	}
	return newConsumerHandle(ctx, c)
}

func (h *streamHandle) Consumer(ctx context.Context, ref string) (store.Consumer, error) {
	s := h.stream()
	var c *consumer
	err := s.look(ctx, func() (seglog.Pos, error) {
		if c = s.findConsumer(ref); c == nil {
			return s.newest, store.ErrNoConsumer // it may have been deleted
		}
		return c.created, nil
	})
	if err != nil {
		return nil, err
	}
	return newConsumerHandle(ctx, c)
}

func (h *streamHandle) Consumers(ctx context.Context) (all []store.Consumer, err error) {
	s := h.stream()
	err = s.look(ctx, func() (pos seglog.Pos, err error) {
		all = make([]store.Consumer, len(s.consumers))
		for i, c := range s.consumers {
			all[i] = handleOf(c)
		}
		return s.newest, nil
	})
	return all, err
}
