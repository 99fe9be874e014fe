package store

import (
	"context"
	"time"

	"github.com/sequin-go/sequin/server/internal/waitqueue"
)

// This file has the exported methods of streams, consumers and places. Each takes the stream's lock and calls the method
// of the same name that requires it. No other file takes that lock.

var (
	_ Extended     = (*Memory)(nil)
	_ KeepsHeaders = (*Memory)(nil)
	_ Stream       = (*stream)(nil)

	_ ExtendedStream = (*stream)(nil)
	_ Measured       = (*consumer)(nil)
	_ Place          = (*place)(nil)
)

func (s *stream) ID() string { return s.id }

func (s *stream) Info(context.Context) (StreamInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info(), nil
}

func (s *stream) Delete(context.Context) error {
	// Without the lock: the store's lock is never taken together with a stream's.
	if !s.forget(s) {
		return ErrNoStream
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(ErrNoStream)
	return nil
}

// close ends the stream because the store is closed.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(ErrClosed)
}

func (s *stream) Send(_ context.Context, o Once, messages []Message) (int, error) {
	var body BodyHash
	if o.Key != "" {
		body = HashBody(o.Body)
	}
	if s.newest == nil { // where a message replaces another, each that is stored is copied by itself
		own(messages)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendOnce(o, body, messages)
}

func (s *stream) Get(_ context.Context, key string) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(key)
}

func (s *stream) List(_ context.Context, q ListQuery) ([]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.list(q), nil
}

func (s *stream) States(_ context.Context, key string) (Message, []ConsumerView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states(key)
}

func (s *stream) Purge(_ context.Context, q PurgeQuery) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.purge(q)
}

func (s *stream) SeqAt(_ context.Context, at time.Time) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seqAt(at.UnixMicro()), nil
}

func (s *stream) CreateConsumer(_ context.Context, o ConsumerOptions) (Consumer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.createConsumer(o, (*consumer).leaseExpired)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (s *stream) Consumer(_ context.Context, ref string) (Consumer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.findConsumer(ref); c != nil {
		return c, nil
	}
	return nil, ErrNoConsumer
}

func (s *stream) Consumers(context.Context) ([]Consumer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Consumer, len(s.consumers))
	for i, c := range s.consumers {
		out[i] = c
	}
	return out, nil
}

// The ids of a consumer never change.
func (c *consumer) ID() string       { return c.info.ID }
func (c *consumer) StreamID() string { return c.info.StreamID }

func (c *consumer) Info(context.Context) (ConsumerInfo, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.info, nil
}

func (c *consumer) Update(_ context.Context, limits ConsumerLimits) (ConsumerInfo, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.update(limits)
}

func (c *consumer) Delete(context.Context) error {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	if !c.stream.removeConsumer(c) {
		return ErrNoConsumer
	}
	return nil
}

func (c *consumer) Receive(_ context.Context, n int, dst []Delivery) ([]Delivery, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.receive(n, dst)
}

func (c *consumer) Queue(context.Context) (Place, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	w, err := c.queue()
	if err != nil {
		return nil, err
	}
	return &place{c, w}, nil
}

func (c *consumer) Settle(_ context.Context, ids []ID, how Settlement) error {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.settle(ids, how, 0)
}

func (c *consumer) Delay(_ context.Context, ids []ID, how Settlement, delay time.Duration) error {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.settle(ids, how, delay)
}

func (c *consumer) Extend(_ context.Context, ids []ID, wait time.Duration) ([]ID, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.extend(ids, wait)
}

func (c *consumer) Peek(_ context.Context, q PeekQuery) ([]View, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.peek(q), nil
}

func (c *consumer) Measure(context.Context) (Measure, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.measure()
}

func (c *consumer) State(context.Context) (ConsumerState, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.state(), nil
}

// leaseExpired is called by the timer of the consumer's queue of waiting receives.
func (c *consumer) leaseExpired() {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	c.waiting.Expired()
}

// place is a Place in memory.
type place struct {
	consumer *consumer
	waiter   waitqueue.Waiter
}

func (p *place) Ready() <-chan struct{} { return p.waiter }

func (p *place) Receive(_ context.Context, n int, dst []Delivery) ([]Delivery, error) {
	p.consumer.stream.mu.Lock()
	defer p.consumer.stream.mu.Unlock()
	return p.consumer.receiveQueued(p.waiter, n, dst)
}

func (p *place) Leave() {
	p.consumer.stream.mu.Lock()
	defer p.consumer.stream.mu.Unlock()
	p.consumer.waiting.Leave(p.waiter)
}
