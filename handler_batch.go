package sequin

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sequin-go/sequin/internal/calls"
	"github.com/sequin-go/sequin/internal/lease"
)

// HandleBatch is Handle for several deliveries at once. Each call gets the deliveries that have arrived, up to Size. A
// delivery that the handler has settled itself stays as it is. The others are acked or nacked by what the handler returns.
// The leases of the batch are extended as in Handle. The handler's ctx ends with the first lease of a delivery that it has not
// settled. Where leases cannot be extended, it ends at the earliest Deadline of the batch.
//
// A message that has failed is handled in batches with others that have failed, half the size after each failure, and in a
// batch of its own before it becomes a dead letter. One bad message therefore does not make the others fail.
//
// HandleBatch starts one goroutine more than Handle, which collects the batches. Its errors, and its rules for NackAfter,
// Release and a stop that interrupts the handler, are those of Handle.
func (s *Subscriber) HandleBatch(ctx context.Context, cfg BatchHandlerConfig, handle func(context.Context, []Delivery) error) error {
	if handle == nil {
		return fmt.Errorf("%w: HandleBatch needs a function", ErrInvalidArgument)
	}
	cfg = cfg.withDefaults(s.cfg)
	if err := cfg.validate(s.cfg); err != nil {
		return err
	}
	p, err := newHandlerPool(ctx, s, HandlerConfig{Workers: cfg.Workers, BackoffMin: cfg.BackoffMin, BackoffMax: cfg.BackoffMax,
		MaxHandling: cfg.MaxHandling, DeadLetter: cfg.DeadLetter, OnError: cfg.OnError})
	if err != nil {
		return err
	}
	p.handle = func(ctx context.Context, batch []Delivery) ([]Message, error) { return nil, handle(ctx, batch) }
	c := newCollector(p, cfg)
	go c.run()
	return p.run(func(w *calls.Worker) {
		for batch := range c.batches {
			p.serve(w, batch)
		}
	})
}

// collector collects deliveries into batches, on one goroutine. It sends each batch to the first worker that is free, and the
// batch grows until then. Messages that have failed before are collected separately, in smaller batches.
type collector struct {
	pool    *handlerPool
	size    int
	wait    time.Duration
	batches chan []Delivery // unbuffered: a send that succeeds has found a free worker
	open    []*partialBatch // oldest first
	timer   *time.Timer
}

// partialBatch is a batch that is being collected.
type partialBatch struct {
	items []Delivery
	limit int       // the most items that it may hold; all its items have the same limit
	since time.Time // when its first item was added
	by    time.Time // the earliest hand-over time of its leases, so that not all are looked at for each delivery
}

func (b *partialBatch) full() bool { return len(b.items) >= b.limit }

// add adds a delivery.
func (b *partialBatch) add(d Delivery) {
	b.items = append(b.items, d)
	if by := d.state.Lease().HandOverBy; len(b.items) == 1 || by.Before(b.by) {
		b.by = by
	}
}

// removeLate removes and returns the deliveries whose hand-over time has passed.
func (b *partialBatch) removeLate(now time.Time) (late []Delivery) {
	if !lease.Past(now, b.by) {
		return nil
	}
	all := b.items
	b.items = nil
	for _, d := range all {
		if lease.Past(now, d.state.Lease().HandOverBy) {
			late = append(late, d)
		} else {
			b.add(d)
		}
	}
	return late
}

// dueAt returns when the batch is handled even if it is not full: after wait, or after half of the time until its first hand-over
// time if that is earlier. With a free worker, no delivery is then returned because of the wait.
func (b *partialBatch) dueAt(wait time.Duration) time.Time {
	return b.since.Add(min(wait, b.by.Sub(b.since)/2))
}

func newCollector(p *handlerPool, cfg BatchHandlerConfig) *collector {
	p.sub.minWindow.Store(int32(cfg.Size))
	p.sub.full.Set(false) // it was set for a smaller window
	p.sub.wake()
	return &collector{pool: p, size: cfg.Size, wait: cfg.Wait, batches: make(chan []Delivery), timer: time.NewTimer(never)}
}

// run collects until the Subscriber stops.
func (c *collector) run() {
	defer close(c.batches)
	defer c.timer.Stop()
	sub := c.pool.sub
	for {
		now := time.Now()
		c.returnLate(now)
		next, wake := c.next(now)
		in, out, items := sub.deliveries, c.batches, []Delivery(nil)
		if c.full() {
			in = nil // keep the others in the channel, from where the Subscriber can recall them
		} else {
			sub.buffer.refill()
		}
		if next == nil {
			out = nil
		} else {
			items = next.items
		}
		c.timer.Reset(time.Until(wake))
		select {
		case d, ok := <-in:
			if ok {
				c.add(d)
				c.addReady()
			}
		case out <- items:
			c.open = slices.DeleteFunc(c.open, func(b *partialBatch) bool { return b == next })
		case <-sub.full.Told():
		case <-c.timer.C:
		case <-sub.soft.Done():
			c.returnAll()
			return
		}
	}
}

// add adds a delivery to the batch that has its limit.
func (c *collector) add(d Delivery) {
	limit := c.limit(d)
	i := slices.IndexFunc(c.open, func(b *partialBatch) bool { return b.limit == limit })
	if i < 0 {
		i = len(c.open)
		c.open = append(c.open, &partialBatch{limit: limit, since: time.Now()})
	}
	c.open[i].add(d)
}

// addReady adds the deliveries that the Subscriber has, until a batch is full.
func (c *collector) addReady() {
	sub := c.pool.sub
	for !c.full() {
		select {
		case d, ok := <-sub.deliveries:
			if !ok {
				return
			}
			c.add(d)
		default:
			if sub.buffer.refill(); len(sub.deliveries) == 0 {
				return
			}
		}
	}
}

// full reports whether a batch is full.
func (c *collector) full() bool { return slices.ContainsFunc(c.open, (*partialBatch).full) }

// limit returns how many items a batch with d may hold. It halves with each failure of the message, those of other processes too, down to 1, so that a bad
// message is finally in a batch of its own. It is 1 at once if the message must be isolated, or if the next failure makes it
// a dead letter.
func (c *collector) limit(d Delivery) int {
	r, dead := c.pool.sub.failures.Get(failureID(d)), c.pool.dead
	failures, tries := r.Failures, r.Tries
	if d.state.counts() && dead != nil { // other processes may have failed, or crashed
		failures, tries = max(failures, d.Attempt-1-r.Survived), max(tries, d.attempts()-1-r.Survived)
	}
	switch {
	case failures <= 0:
		return c.size
	case r.Isolate, r.Dead, dead != nil && tries+1 >= dead.cfg.MaxAttempts:
		return 1
	}
	return max(1, c.size>>failures)
}

// next returns the batch that goes to the next free worker, nil if there is none yet, and when to call it again. A full batch
// comes first, then the oldest.
func (c *collector) next(now time.Time) (next *partialBatch, wake time.Time) {
	complete := c.complete()
	wake = now.Add(never)
	for _, b := range c.open {
		due := b.dueAt(c.wait)
		switch {
		case b.full() && (next == nil || !next.full()):
			next = b
		case next == nil && (complete || !now.Before(due)):
			next = b
		case due.After(now) && due.Before(wake):
			wake = due
		}
		if b.by.Before(wake) {
			wake = b.by
		}
	}
	return next, wake
}

// complete reports whether no delivery can be added to the batches for now: the buffer is empty, and nothing is received
// before a delivery that is collected here or is being handled is settled. While the breaker is open deliveries arrive one
// at a time, so that a batch of one is complete.
//
// The buffer must be checked last. If it were checked first, the last answer could fill it before the Subscriber is found
// to be full. The number of deliveries here and with handlers does not answer the question, because handlers may have
// settled some of theirs. Once nothing more is received, everything that was received is in the buffer.
func (c *collector) complete() bool {
	if open, _ := c.pool.sub.breaker.Open(); open {
		return true
	}
	n := int(c.pool.busy.Load())
	for _, b := range c.open {
		n += len(b.items)
	}
	return c.pool.sub.blockedBy(n) && c.pool.sub.buffer.len() == 0
}

// returnLate returns the deliveries that no worker was free for, before their leases end.
func (c *collector) returnLate(now time.Time) {
	late := 0
	for _, b := range c.open {
		for _, d := range b.removeLate(now) {
			late++
			c.pool.sub.returnFromHandler(d)
		}
	}
	if late == 0 {
		return
	}
	c.open = slices.DeleteFunc(c.open, func(b *partialBatch) bool { return len(b.items) == 0 })
	c.pool.sub.counts.expired.Add(uint64(late))
	c.pool.sub.changed(StateInfo{State: StateExpired, Messages: late})
	c.pool.sub.log.Add(slog.LevelWarn, "returned deliveries that no worker was free for in time", "deliveries", late)
}

// returnAll returns all deliveries when the Subscriber stops. It first waits for the channel to be closed. Until then a
// receive may be waiting at the server, which could deliver a returned message to it just before it is cancelled.
func (c *collector) returnAll() {
	for d := range c.pool.sub.deliveries {
		c.pool.sub.returnFromHandler(d)
	}
	for _, b := range c.open {
		for _, d := range b.items {
			c.pool.sub.returnFromHandler(d)
		}
	}
}

// blockedBy reports whether nothing can be received before one of the caller's n deliveries is settled. Two conditions must
// hold. There is no room for a receive, or as many messages are in flight as the consumer delivers at once. And no settle
// that would make room is being sent, because apart from messages with delayed nacks only the n deliveries are in flight.
func (s *Subscriber) blockedBy(n int) bool {
	limit := s.origin.consumer.MaxAckPending // 0 if the server does not report it
	full := s.full.Is()
	inFlight, delayed := s.ledger.InFlight()
	return (full || limit > 0 && inFlight >= limit) && inFlight-delayed <= n
}
