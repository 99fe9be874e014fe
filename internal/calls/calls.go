// Package calls watches the calls of handlers that run: which deliveries they work on, which leases must be extended, and
// whose context must end because a lease is over.
//
// A [Worker] makes one call at a time. It notes the call without a lock, because calls may be short and many. Another
// goroutine, the watcher, looks at the calls of all workers now and then.
//
// The package knows neither requests nor messages, and starts no goroutine. What a lease is belongs to internal/lease.
package calls

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/lease"
)

// Delivery is what a call needs of a delivery.
type Delivery interface {
	Lease() *lease.Lease // the current one
	IsSettled() bool
	Extends() bool // the server extends its lease
	Hold(ackID string) *lease.Held
}

// Item is a delivery that a handler works on.
type Item struct {
	Key, AckID string
	Delivery   Delivery
}

// overdue reports whether the delivery is not settled although its lease is over.
func (x *Item) overdue(now time.Time) bool {
	return !x.Delivery.IsSettled() && lease.Past(now, x.Delivery.Lease().Deadline)
}

// Call is the call of a handler that has not returned.
type Call struct {
	Began time.Duration // of a clock of the caller
	items []Item
	work  *lease.Work // nil if no lease can be extended
	keep  time.Time   // leases are extended until then
	until time.Time   // when work ends at the latest
	noted bool        // by Overdue
}

// Add adds a delivery to a call that has not begun.
func (c *Call) Add(x Item) { c.items = append(c.items, x) }

// Extendable makes the context of a call whose leases are extended until the given time. The context ends then, or at the end of
// the first lease if that is later. parent and values are those of lease.NewWork.
func (c *Call) Extendable(parent, values context.Context, keep, leaseEnds time.Time) context.Context {
	c.keep, c.until = keep, keep
	if leaseEnds.After(keep) {
		c.until = leaseEnds
	}
	c.work = lease.NewWork(parent, values, c.until)
	return c.work
}

// Return ends the context that Extendable has made, because the handler has returned.
func (c *Call) Return() {
	if c.work != nil {
		c.work.End(nil)
	}
}

// Overdue returns the key of a delivery that is not settled although its lease is over. It returns one once for each call.
func (c *Call) Overdue(now time.Time) (key string, ok bool) {
	i := slices.IndexFunc(c.items, func(x Item) bool { return x.overdue(now) })
	if i < 0 || c.noted {
		return "", false
	}
	c.noted = true
	return c.items[i].Key, true
}

// IsOverdue reports whether a delivery is not settled although its lease is over.
func (c *Call) IsOverdue(now time.Time) bool {
	return slices.ContainsFunc(c.items, func(x Item) bool { return x.overdue(now) })
}

// Keep calls extend for the leases that are half over and end before the call must, and ends the call's context with the cause
// once a lease of a delivery is over that the handler has not settled. A lease that it keeps lasts a margin longer than the
// call, for its settle. Keep returns when to call it again, the zero time for never. lost is the key of a delivery whose lease the
// server has ended before its time, if that was the reason. With early, leases of which a quarter is over are extended too.
func (c *Call) Keep(now time.Time, early bool, extend func(*lease.Held), cause error) (next time.Time, lost string) {
	if c.work == nil || c.work.Ended() {
		return time.Time{}, ""
	}
	if i := slices.IndexFunc(c.items, func(x Item) bool { return x.overdue(now) }); i >= 0 || lease.Past(now, c.until) {
		c.work.End(cause)
		if i >= 0 && c.items[i].Delivery.Extends() && c.items[i].Delivery.Hold(c.items[i].AckID).Lost() {
			lost = c.items[i].Key
		}
		return time.Time{}, lost
	}
	next = c.until
	for i := range c.items {
		x := &c.items[i]
		if x.Delivery.IsSettled() {
			continue
		}
		l := x.Delivery.Lease()
		at := l.Deadline
		if x.Delivery.Extends() && at.Before(c.keep.Add(l.Margin)) {
			if half := l.Half(); now.Before(half) && !(early && now.Sub(l.Began) > half.Sub(l.Began)/2) {
				at = half
			} else {
				extend(x.Delivery.Hold(x.AckID))
			}
		}
		if at.Before(next) {
			next = at
		}
	}
	return next, ""
}

// Worker is one that calls handlers. Only the worker writes call, and only while it is idle. The watcher reads it only while the
// worker is inspected, and a worker that ends its call at that time waits for the watcher. A call therefore needs no lock.
type Worker struct {
	state      atomic.Int32 // idle, serving or inspected
	inspection sync.Mutex   // held by the watcher while the worker is inspected
	call       Call
	_          [64]byte // keeps workers in different cache lines, because each call writes state twice
}

// The states of a Worker.
const (
	idle int32 = iota
	serving
	inspected // serving, and the watcher reads its call
)

// Call returns the call of the worker, which fills it in before Begin.
func (w *Worker) Call() *Call { return &w.call }

// Begin records that the worker serves its call.
func (w *Worker) Begin() { w.state.Store(serving) }

// End records that the deliveries of the call are settled.
func (w *Worker) End() {
	if w.state.Swap(idle) == inspected {
		w.inspection.Lock() // wait for the watcher
		defer w.inspection.Unlock()
	}
	clear(w.call.items) // or it would keep the keys in memory
	w.call = Call{items: w.call.items[:0]}
}

// Serves reports whether the worker has deliveries that it has not settled yet.
func (w *Worker) Serves() bool { return w.state.Load() != idle }

// Inspect calls f with the worker's call, if it serves one.
func (w *Worker) Inspect(f func(*Call)) {
	w.inspection.Lock()
	defer w.inspection.Unlock()
	if w.state.CompareAndSwap(serving, inspected) {
		defer w.state.CompareAndSwap(inspected, serving)
		f(&w.call)
	}
}
