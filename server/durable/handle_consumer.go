package durable

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/internal/waitqueue"
)

// consumerHandle is a store.Consumer. It finds its consumer again as a streamHandle does its stream.
type consumerHandle struct {
	stream  *streamHandle
	current atomic.Pointer[consumer]
}

var (
	_ store.Consumer = (*consumerHandle)(nil)
	_ store.Place    = (*place)(nil)
)

// newConsumerHandle waits until the consumer is committed.
func newConsumerHandle(ctx context.Context, c *consumer) (store.Consumer, error) {
	if err := c.stream.store.committed(ctx, c.created); err != nil {
		return nil, err
	}
	return handleOf(c), nil
}

func handleOf(c *consumer) *consumerHandle {
	h := &consumerHandle{stream: newStreamHandle(c.stream)}
	h.current.Store(c)
	return h
}

func (h *consumerHandle) ID() string { return h.current.Load().info.ID }

func (h *consumerHandle) StreamID() string { return h.current.Load().info.StreamID }

// find returns the consumer. One that is deleted is still returned, until the store has read its state again.
func (h *consumerHandle) find() (*consumer, error) {
	c, s := h.current.Load(), h.stream.stream()
	if c.stream == s {
		return c, nil
	}
	var again *consumer
	_ = s.locked(func() error { again = s.consumerNumber(c.cid); return nil })
	if again == nil {
		return nil, store.ErrNoConsumer
	}
	h.current.Store(again)
	return again, nil
}

// look is stream.look for the consumer.
func (h *consumerHandle) look(ctx context.Context, f func(c *consumer) (seglog.Pos, error)) error {
	c, err := h.find()
	if err != nil {
		return err
	}
	return c.stream.look(ctx, func() (seglog.Pos, error) { return f(c) })
}

// change is stream.change for the consumer, unless it has ended.
func (h *consumerHandle) change(ctx context.Context, f func(c *consumer) (seglog.Pos, error)) error {
	c, err := h.find()
	if err != nil {
		return err
	}
	return c.stream.change(ctx, func() (seglog.Pos, error) {
		if err := c.unchangeable(); err != nil {
			return c.stream.newest, err
		}
		return f(c)
	})
}

func (h *consumerHandle) Info(ctx context.Context) (info store.ConsumerInfo, err error) {
	err = h.look(ctx, func(c *consumer) (seglog.Pos, error) {
		info = c.info
		return c.changed, nil
	})
	return info, err
}

func (h *consumerHandle) Update(ctx context.Context, limits store.ConsumerLimits) (info store.ConsumerInfo, err error) {
	err = h.change(ctx, func(c *consumer) (seglog.Pos, error) {
		now, at := c.stream.store.clock.now(), time.Now().UnixNano()
		pos := c.record(kindUpdateConsumer, func(b []byte) []byte {
			return appendLimits(binary.AppendInt(binary.AppendInt(b, now), at), limits)
		})
		c.applyUpdate(limits, now, at, pos)
		c.waiting.Update()
		info = c.info
		return pos, nil
	})
	return info, err
}

func (h *consumerHandle) Delete(ctx context.Context) error {
	return h.change(ctx, func(c *consumer) (seglog.Pos, error) {
		pos := c.record(kindDeleteConsumer, func(b []byte) []byte { return b })
		c.stream.applyDeleteConsumer(c)
		return pos, nil
	})
}

func (h *consumerHandle) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	c, err := h.find()
	if err != nil {
		return dst, err
	}
	r := receiving{c: c, n: n}
	return r.run(ctx, dst)
}

func (h *consumerHandle) Queue(ctx context.Context) (store.Place, error) {
	c, err := h.find()
	if err != nil {
		return nil, err
	}
	for bytes := smallRun; ; bytes = min(2*bytes, largeRun) {
		var p *place
		err := c.stream.locked(func() (err error) {
			p, err = c.queue()
			return err
		})
		if err != nil || p != nil {
			return p, err
		}
		if err := c.fill(ctx, bytes); err != nil {
			return nil, err
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
	}
}

// queue adds a place to the queue. It returns nil when the log has to be read first, to know whether a message is
// available.
func (c *consumer) queue() (*place, error) {
	if err := c.unchangeable(); err != nil {
		return nil, err
	}
	if c.waiting.Len() >= c.info.MaxWaiting {
		return nil, store.ErrTooManyWaiting
	}
	c.expire(c.stream.store.clock.now())
	decided := c.backlog.Room() == 0 || c.backlog.Ready() > 0 || c.backlog.Seeks() > 0 || c.skipWaiting()
	if !decided && c.window.next <= c.stream.last {
		return nil, nil
	}
	return &place{c, c.waiting.Join()}, nil
}

func (h *consumerHandle) Settle(ctx context.Context, ids []store.ID, how store.Settlement) error {
	return h.Delay(ctx, ids, how, 0)
}

func (h *consumerHandle) Delay(ctx context.Context, ids []store.ID, how store.Settlement, delay time.Duration) error {
	return h.change(ctx, func(c *consumer) (seglog.Pos, error) {
		now := c.stream.store.clock.now()
		c.expire(now)
		// When nothing matters, an earlier settle may have done it: that must be committed before it is confirmed again.
		pos := c.stream.newest
		deliveries := c.deliveries(ids, backlog.How(how), now)
		if len(deliveries) > 0 {
			r := newSettleRecord(c.cid, now, backlog.How(how), int64(delay), deliveries)
			pos = c.record(r.kind(), r.appendTo)
			c.backlog.Settle(r.deliveries, r.how, r.now, r.delay)
		}
		c.waiting.Update()
		return pos, nil
	})
}

func (h *consumerHandle) Extend(ctx context.Context, ids []store.ID, wait time.Duration) (extended []store.ID, err error) {
	err = h.change(ctx, func(c *consumer) (seglog.Pos, error) {
		now, opening := c.stream.store.clock.now(), c.stream.store.opening
		c.expire(now)
		pos := c.stream.newest
		var changed []backlog.Delivery
		for _, id := range ids {
			d, ok := delivery(c.salt, id, opening)
			if !ok || !c.backlog.OnLease(d, now) {
				continue
			}
			extended = append(extended, id)
			if c.backlog.Extends(d, now+int64(wait)) {
				changed = append(changed, d)
			}
		}
		if len(changed) > 0 {
			r := newSettleRecord(c.cid, now, backlog.Nack, max(1, int64(wait)), changed) // a record has a delay of 0 only if it has none
			pos = c.record(kindExtend, r.appendTo)
			c.backlog.Extend(r.deliveries, r.now, r.delay)
		}
		c.waiting.Update()
		return pos, nil
	})
	if err != nil {
		return nil, err
	}
	return extended, nil
}

// deliveries returns those that a settle of the ids changes.
func (c *consumer) deliveries(ids []store.ID, how backlog.How, now int64) []backlog.Delivery {
	opening := c.stream.store.opening
	matter := make([]backlog.Delivery, 0, len(ids))
	for _, id := range ids {
		if d, ok := delivery(c.salt, id, opening); ok && c.backlog.Matters(d, how, now, opening) {
			matter = append(matter, d)
		}
	}
	return matter
}

func (h *consumerHandle) Peek(ctx context.Context, q store.PeekQuery) (views []store.View, err error) {
	err = h.inspect(ctx, func(c *consumer) (err error) {
		views, err = c.peek(q)
		return err
	})
	return views, err
}

func (h *consumerHandle) State(ctx context.Context) (state store.ConsumerState, err error) {
	err = h.inspect(ctx, func(c *consumer) (err error) {
		state, err = c.inspect()
		return err
	})
	return state, err
}

// inspect calls f without the lock, and then waits until everything is committed that f may have seen.
func (h *consumerHandle) inspect(ctx context.Context, f func(c *consumer) error) error {
	c, err := h.find()
	if err != nil {
		return err
	}
	if err := f(c); err != nil {
		return err
	}
	return c.stream.look(ctx, func() (seglog.Pos, error) { return c.stream.newest, nil })
}

// leaseExpired is called by the timer of the consumer's queue of waiting receives, without the lock.
func (c *consumer) leaseExpired() {
	_ = c.stream.locked(func() error {
		if c.ended == nil {
			c.waiting.Expired()
		}
		return nil
	})
}

// place is a store.Place. When the store has read its state again the place is in no queue any more, and its consumer has
// ended.
type place struct {
	consumer *consumer
	waiter   waitqueue.Waiter
}

func (p *place) Ready() <-chan struct{} { return p.waiter }

func (p *place) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	r := receiving{c: p.consumer, n: n, waiter: p.waiter}
	return r.run(ctx, dst)
}

func (p *place) Leave() {
	_ = p.consumer.stream.locked(func() error {
		p.consumer.waiting.Leave(p.waiter)
		return nil
	})
}
