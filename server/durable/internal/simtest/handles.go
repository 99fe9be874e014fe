package simtest

import (
	"context"
	"errors"
	"time"

	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/internal/store"
)

// stream is a handle that finds its stream anew for each operation.
type stream struct {
	c  *crashing
	id string
}

// onStream makes an operation on the stream. The ctx of the request may end with its connection, so that it is not passed
// on: then nobody would know what the server did.
func onStream[T any](ctx context.Context, s *stream, op func(context.Context, store.Stream) (T, error)) (T, error) {
	ctx = context.WithoutCancel(ctx)
	return on(s.c, func(st *durable.Store) (v T, err error) {
		found, err := st.Stream(ctx, s.id)
		if err != nil {
			return v, err
		}
		return op(ctx, found)
	})
}

func (s *stream) ID() string { return s.id }

func (s *stream) Info(ctx context.Context) (store.StreamInfo, error) {
	return onStream(ctx, s, func(ctx context.Context, h store.Stream) (store.StreamInfo, error) { return h.Info(ctx) })
}

func (s *stream) Delete(ctx context.Context) error {
	_, err := onStream(ctx, s, func(ctx context.Context, h store.Stream) (int, error) { return 0, h.Delete(ctx) })
	return err
}

// errNoKey would make a send that is not recognized after a crash.
var errNoKey = errors.New("simtest: a send without an Idempotency-Key")

func (s *stream) Send(ctx context.Context, o store.Once, messages []store.Message) (int, error) {
	if o.Key == "" {
		return 0, errNoKey
	}
	s.c.arm()
	return onStream(ctx, s, func(ctx context.Context, h store.Stream) (int, error) { return h.Send(ctx, o, messages) })
}

func (s *stream) Get(ctx context.Context, key string) (store.Message, error) {
	return onStream(ctx, s, func(ctx context.Context, h store.Stream) (store.Message, error) { return h.Get(ctx, key) })
}

func (s *stream) List(ctx context.Context, q store.ListQuery) ([]store.Message, error) {
	return onStream(ctx, s, func(ctx context.Context, h store.Stream) ([]store.Message, error) { return h.List(ctx, q) })
}

func (s *stream) States(ctx context.Context, key string) (m store.Message, views []store.ConsumerView, err error) {
	views, err = onStream(ctx, s, func(ctx context.Context, h store.Stream) (views []store.ConsumerView, err error) {
		m, views, err = h.States(ctx, key)
		return views, err
	})
	return m, views, err
}

// Purge purges anew after a crash. Its count is then that of the last try.
func (s *stream) Purge(ctx context.Context, q store.PurgeQuery) (int, error) {
	return onStream(ctx, s, func(ctx context.Context, h store.Stream) (int, error) { return h.(store.ExtendedStream).Purge(ctx, q) })
}

func (s *stream) SeqAt(ctx context.Context, at time.Time) (int64, error) {
	return onStream(ctx, s, func(ctx context.Context, h store.Stream) (int64, error) {
		return h.(store.ExtendedStream).SeqAt(ctx, at)
	})
}

func (s *stream) CreateConsumer(ctx context.Context, o store.ConsumerOptions) (store.Consumer, error) {
	return onStream(ctx, s, func(ctx context.Context, h store.Stream) (store.Consumer, error) {
		return s.c.consumer(h.CreateConsumer(ctx, o))
	})
}

func (s *stream) Consumer(ctx context.Context, ref string) (store.Consumer, error) {
	return onStream(ctx, s, func(ctx context.Context, h store.Stream) (store.Consumer, error) {
		return s.c.consumer(h.Consumer(ctx, ref))
	})
}

func (s *stream) Consumers(ctx context.Context) ([]store.Consumer, error) {
	return onStream(ctx, s, func(ctx context.Context, h store.Stream) ([]store.Consumer, error) {
		all, err := h.Consumers(ctx)
		for i := range all {
			all[i] = &consumer{s.c, s.id, all[i].ID()}
		}
		return all, err
	})
}

// consumer is a handle that finds its consumer anew for each operation.
type consumer struct {
	c        *crashing
	streamID string
	id       string
}

func onConsumer[T any](ctx context.Context, c *consumer, op func(context.Context, store.Consumer) (T, error)) (T, error) {
	return onStream(ctx, &stream{c.c, c.streamID}, func(ctx context.Context, s store.Stream) (v T, err error) {
		found, err := s.Consumer(ctx, c.id)
		if errors.Is(err, store.ErrNoStream) {
			err = store.ErrNoConsumer
		}
		if err != nil {
			return v, err
		}
		return op(ctx, found)
	})
}

func (c *consumer) ID() string { return c.id }

func (c *consumer) StreamID() string { return c.streamID }

func (c *consumer) Info(ctx context.Context) (store.ConsumerInfo, error) {
	return onConsumer(ctx, c, func(ctx context.Context, h store.Consumer) (store.ConsumerInfo, error) { return h.Info(ctx) })
}

func (c *consumer) Update(ctx context.Context, l store.ConsumerLimits) (store.ConsumerInfo, error) {
	return onConsumer(ctx, c, func(ctx context.Context, h store.Consumer) (store.ConsumerInfo, error) { return h.Update(ctx, l) })
}

func (c *consumer) Delete(ctx context.Context) error {
	_, err := onConsumer(ctx, c, func(ctx context.Context, h store.Consumer) (int, error) { return 0, h.Delete(ctx) })
	return err
}

// Receive receives anew after a crash. What the receive before it has leased stays on lease.
func (c *consumer) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	return onConsumer(ctx, c, func(ctx context.Context, h store.Consumer) ([]store.Delivery, error) { return h.Receive(ctx, n, dst) })
}

func (c *consumer) Settle(ctx context.Context, ids []store.ID, how store.Settlement) error {
	_, err := onConsumer(ctx, c, func(ctx context.Context, h store.Consumer) (int, error) { return 0, h.Settle(ctx, ids, how) })
	return err
}

func (c *consumer) Extend(ctx context.Context, ids []store.ID, wait time.Duration) ([]store.ID, error) {
	return onConsumer(ctx, c, func(ctx context.Context, h store.Consumer) ([]store.ID, error) { return h.Extend(ctx, ids, wait) })
}

func (c *consumer) Delay(ctx context.Context, ids []store.ID, how store.Settlement, delay time.Duration) error {
	_, err := onConsumer(ctx, c, func(ctx context.Context, h store.Consumer) (int, error) { return 0, h.Delay(ctx, ids, how, delay) })
	return err
}

func (c *consumer) Peek(ctx context.Context, q store.PeekQuery) ([]store.View, error) {
	return onConsumer(ctx, c, func(ctx context.Context, h store.Consumer) ([]store.View, error) { return h.Peek(ctx, q) })
}

func (c *consumer) State(ctx context.Context) (store.ConsumerState, error) {
	return onConsumer(ctx, c, func(ctx context.Context, h store.Consumer) (store.ConsumerState, error) { return h.State(ctx) })
}

func (c *consumer) Queue(ctx context.Context) (store.Place, error) {
	p := &place{consumer: c}
	return p, p.queue(ctx)
}

// place is the place of a waiting receive. It is used by one goroutine. After a crash it queues anew.
type place struct {
	consumer *consumer
	opening  *opening
	inner    store.Place
}

func (p *place) queue(ctx context.Context) (err error) {
	p.inner, err = onConsumer(ctx, p.consumer, func(ctx context.Context, h store.Consumer) (store.Place, error) {
		p.opening = p.consumer.c.running()
		return h.Queue(ctx)
	})
	return err
}

func (p *place) Ready() <-chan struct{} { return p.inner.Ready() }

func (p *place) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	got, err := p.inner.Receive(context.WithoutCancel(ctx), n, dst)
	if !p.opening.crashed() {
		return got, err
	}
	return dst, p.queue(ctx)
}

func (p *place) Leave() {
	if p.inner != nil {
		p.inner.Leave()
	}
}
