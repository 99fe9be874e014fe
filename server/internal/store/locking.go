package store

import "hash/maphash"

// This file has the exported methods of streams, consumers and places. Each takes the stream's lock and calls the method
// of the same name that requires it. No other file takes that lock.

var (
	_ Stream   = (*stream)(nil)
	_ Consumer = (*consumer)(nil)
	_ Place    = (*place)(nil)
)

func (s *stream) ID() string { return s.id }

func (s *stream) Info() StreamInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info()
}

func (s *stream) Delete() error {
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

func (s *stream) Send(o Once, messages []Message) (int, error) {
	var body uint64
	if o.Key != "" {
		body = maphash.Bytes(bodySeed, o.Body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendOnce(o, body, messages)
}

func (s *stream) Get(key string) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(key)
}

func (s *stream) List(q ListQuery) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.list(q)
}

func (s *stream) States(key string) (Message, []ConsumerView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states(key)
}

func (s *stream) CreateConsumer(o ConsumerOptions) (Consumer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.createConsumer(o, (*consumer).leaseExpired)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (s *stream) Consumer(ref string) (Consumer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.findConsumer(ref); c != nil {
		return c, nil
	}
	return nil, ErrNoConsumer
}

func (s *stream) Consumers() []Consumer {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Consumer, len(s.consumers))
	for i, c := range s.consumers {
		out[i] = c
	}
	return out
}

func (c *consumer) Info() ConsumerInfo {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.info
}

func (c *consumer) Update(limits ConsumerLimits) (ConsumerInfo, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.update(limits)
}

func (c *consumer) Delete() error {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	if !c.stream.removeConsumer(c) {
		return ErrNoConsumer
	}
	return nil
}

func (c *consumer) Receive(n int, dst []Delivery) ([]Delivery, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.receive(n, dst)
}

func (c *consumer) Queue() (Place, error) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	w, err := c.queue()
	if err != nil {
		return nil, err
	}
	return &place{c, w}, nil
}

func (c *consumer) Settle(ids []ID, how Settlement) error {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.settle(ids, how)
}

func (c *consumer) Peek(q PeekQuery) []View {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.peek(q)
}

func (c *consumer) State() ConsumerState {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.state()
}

// leaseExpired is called by the timer of the consumer's waitQueue.
func (c *consumer) leaseExpired() {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	c.waiting.stopTimer()
	c.waiting.update()
}

// place is a Place in memory.
type place struct {
	consumer *consumer
	waiter   waiter
}

func (p *place) Ready() <-chan struct{} { return p.waiter }

func (p *place) Receive(n int, dst []Delivery) ([]Delivery, error) {
	p.consumer.stream.mu.Lock()
	defer p.consumer.stream.mu.Unlock()
	return p.consumer.receiveQueued(p.waiter, n, dst)
}

func (p *place) Leave() {
	p.consumer.stream.mu.Lock()
	defer p.consumer.stream.mu.Unlock()
	p.consumer.waiting.leave(p.waiter)
}
