package sequin

import (
	"log/slog"
	"slices"
	"time"
)

// collector makes batches of deliveries, on one goroutine, and hands each to the first worker that is free; until then it
// grows. Messages that have failed before are gathered apart from those that have not, in smaller batches.
type collector struct {
	pool    *handlerPool
	size    int
	wait    time.Duration
	batches chan []Delivery // unbuffered: a send that succeeds has found a free worker
	open    []*partialBatch // oldest first
	timer   *time.Timer
}

// partialBatch is a batch in the making.
type partialBatch struct {
	items []Delivery
	limit int       // how many it may hold: what its items have in common
	since time.Time // when its first item came
}

func (g *partialBatch) full() bool { return len(g.items) >= g.limit }

// usable is how long its first lease still was when its first item came, until it is near its end.
func (g *partialBatch) usable() time.Duration {
	near := g.items[0].state.lease.near
	for _, d := range g.items[1:] {
		if n := d.state.lease.near; n.Before(near) {
			near = n
		}
	}
	return near.Sub(g.since)
}

func newCollector(p *handlerPool, cfg BatchHandlerConfig) *collector {
	p.sub.minWindow.Store(int32(cfg.Size))
	p.sub.full.Store(false) // it was noted for another need
	p.sub.wake()
	return &collector{pool: p, size: cfg.Size, wait: cfg.Wait, batches: make(chan []Delivery), timer: time.NewTimer(never)}
}

func (g *collector) run() {
	defer close(g.batches)
	defer g.timer.Stop()
	for {
		now := time.Now()
		g.shed(now)
		ready, wake := g.ready(now)
		in, out, batch := g.pool.sub.deliveries, g.batches, []Delivery(nil)
		if slices.ContainsFunc(g.open, (*partialBatch).full) {
			in = nil // more would only lie here instead of in the channel
		}
		if ready == nil {
			out = nil
		} else {
			batch = ready.items
		}
		g.timer.Reset(time.Until(wake))
		select {
		case d, ok := <-in:
			if ok {
				g.add(d)
			}
		case out <- batch:
			g.open = slices.DeleteFunc(g.open, func(o *partialBatch) bool { return o == ready })
		case <-g.pool.sub.filled:
		case <-g.timer.C:
		case <-g.pool.sub.soft.Done():
			g.giveUp()
			return
		}
	}
}

// add puts a delivery to its like.
func (g *collector) add(d Delivery) {
	limit := g.limit(d)
	i := slices.IndexFunc(g.open, func(o *partialBatch) bool { return o.limit == limit })
	if i < 0 {
		i = len(g.open)
		g.open = append(g.open, &partialBatch{limit: limit, since: time.Now()})
	}
	g.open[i].items = append(g.open[i].items, d)
}

// limit is how many may stand in a batch with d: half as many after each failure, so that a bad message is alone in the
// end, and alone at once where it is to be told apart from the others.
func (g *collector) limit(d Delivery) int {
	r := g.pool.sub.failures.Get(failureID(d))
	switch {
	case r.Failures == 0:
		return g.size
	case r.Isolate, g.pool.dead != nil && r.Tries+1 >= g.pool.dead.cfg.MaxAttempts:
		return 1
	}
	return max(1, g.size>>r.Failures)
}

// ready returns the batch to hand over next, nil when none is ready, and when to look again.
func (g *collector) ready(now time.Time) (next *partialBatch, wake time.Time) {
	complete := g.complete()
	wake = now.Add(never)
	for _, o := range g.open {
		due := o.since.Add(min(g.wait, o.usable()/2)) // with a free worker none is given back for waiting
		switch {
		case o.full() && (next == nil || !next.full()):
			next = o
		case next == nil && (complete || !now.Before(due)):
			next = o
		case due.After(now) && due.Before(wake):
			wake = due
		}
		for _, d := range o.items {
			if near := d.state.lease.near; near.Before(wake) {
				wake = near
			}
		}
	}
	return next, wake
}

// complete reports whether nothing can be added: nothing will come before what is gathered here, or is with the handlers,
// is settled, and the channel is empty. A consumer that has slowed down gets one at a time.
//
// In this order: a channel found empty may be filled by the last answer before intake notes that it is full, and with
// handlers that have settled some of what they hold, n does not tell. Once nothing is to come, whatever came is there.
func (g *collector) complete() bool {
	if open, _ := g.pool.sub.breaker.Open(); open {
		return true
	}
	n := int(g.pool.busy.Load())
	for _, o := range g.open {
		n += len(o.items)
	}
	return g.pool.sub.blockedBy(n) && len(g.pool.sub.deliveries) == 0
}

// shed gives back what no worker was free for, before its lease comes to its end.
func (g *collector) shed(now time.Time) {
	late := 0
	for _, o := range g.open {
		o.items = slices.DeleteFunc(o.items, func(d Delivery) bool {
			if !past(now, d.state.lease.near) {
				return false
			}
			late++
			g.pool.sub.returnUndelivered(d)
			return true
		})
	}
	if late == 0 {
		return
	}
	g.open = slices.DeleteFunc(g.open, func(o *partialBatch) bool { return len(o.items) == 0 })
	g.pool.sub.counts.expired.Add(uint64(late))
	g.pool.sub.log(slog.LevelWarn, "gives back what no worker was free for in time", "deliveries", late)
}

// giveUp gives everything back, at a stop: once the channel is closed, so that no receive waits any more which could get
// it and is cut the next moment.
func (g *collector) giveUp() {
	for d := range g.pool.sub.deliveries {
		g.pool.sub.returnUndelivered(d)
	}
	for _, o := range g.open {
		for _, d := range o.items {
			g.pool.sub.returnUndelivered(d)
		}
	}
}
