package store

import (
	"time"

	"github.com/sequin-go/sequin/server/internal/waitqueue"
)

// consumer is what both dialects share: everything but how messages are leased, which its backlog does. Its exported
// methods are in locking.go. The methods here require the stream's lock.
type consumer struct {
	stream  *stream
	info    ConsumerInfo
	backlog backlog
	waiting waitqueue.Queue
	ended   error // set when the consumer is deleted or the store closed; what methods return from then on
}

func (c *consumer) update(limits ConsumerLimits) (ConsumerInfo, error) {
	if c.ended != nil {
		return ConsumerInfo{}, c.ended
	}
	now := time.Now()
	c.backlog.Refresh(now) // leases that have ended end by the limits they had
	c.info.ConsumerLimits = limits
	c.info.UpdatedAt = now
	c.backlog.limitsChanged()
	c.waiting.Update()
	return c.info, nil
}

func (c *consumer) receive(n int, dst []Delivery) ([]Delivery, error) {
	if c.ended != nil {
		return dst, c.ended
	}
	dst = c.backlog.receive(n, dst)
	// The timer has to follow the new leases: a receive may wait because max_ack_pending is reached.
	c.waiting.Update()
	return dst, nil
}

// receiveQueued is receive for a waiter.
func (c *consumer) receiveQueued(w waitqueue.Waiter, n int, dst []Delivery) ([]Delivery, error) {
	if c.ended != nil {
		return dst, c.ended
	}
	before := len(dst)
	dst = c.backlog.receive(n, dst)
	if len(dst) > before {
		c.waiting.Leave(w)
	} else {
		c.waiting.Stay(w)
	}
	return dst, nil
}

func (c *consumer) queue() (waitqueue.Waiter, error) {
	if c.ended != nil {
		return nil, c.ended
	}
	if c.waiting.Len() >= c.info.MaxWaiting {
		return nil, ErrTooManyWaiting
	}
	return c.waiting.Join(), nil
}

func (c *consumer) settle(ids []ID, how Settlement, delay time.Duration) error {
	if c.ended != nil {
		return c.ended
	}
	c.backlog.settle(ids, how, delay)
	c.waiting.Update()
	return nil
}

func (c *consumer) extend(ids []ID, wait time.Duration) ([]ID, error) {
	if c.ended != nil {
		return nil, c.ended
	}
	extended := c.backlog.extend(ids, wait)
	c.waiting.Update() // a lease that has expired meanwhile may have made a message available
	return extended, nil
}

func (c *consumer) end(err error) {
	if c.ended == nil {
		c.ended = err
		c.waiting.Close()
	}
}

func (c *consumer) peek(q PeekQuery) []View {
	if q.Limit <= 0 {
		return nil
	}
	p := NewPeeked(q)
	c.backlog.views(q.After, p.Add)
	return p.Views()
}

func (c *consumer) state() ConsumerState {
	s := ConsumerState{Info: c.info, Waiting: c.waiting.Len(), Outstanding: c.backlog.outstanding()}
	c.backlog.views(0, func(v View) bool {
		switch v.State {
		case Available:
			s.Available++
		case Delayed:
			s.Delayed++
		}
		return true
	})
	return s
}
