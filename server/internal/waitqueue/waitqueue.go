// Package waitqueue holds the receives of a consumer that wait for a message.
package waitqueue

import (
	"slices"
	"time"
)

// Source says whether a receive would get a message.
type Source interface {
	// Refresh ends the leases that have expired, and reports whether a receive would get a message.
	Refresh(now time.Time) (available bool)
	// NextExpiry returns when the next lease ends; ok is false when none is out.
	NextExpiry() (at time.Time, ok bool)
}

// Queue is the queue of waiting receives, first come first served. It calls one waiter at a time. The next waiter is
// called when the called one has received and more is available, or when it leaves without receiving. A change therefore
// wakes as many receives as it has messages for. A Queue has no lock: callers hold that of its stream.
type Queue struct {
	source Source
	// leaseExpired is what the timer calls, without the stream's lock.
	leaseExpired func()

	waiters []Waiter
	called  Waiter      // nil when no waiter is called
	timer   *time.Timer // runs while a receive waits and a lease is out
	at      time.Time   // when the timer fires
}

// Waiter is the channel that calls a waiting receive. It has room for one value, and is empty unless the waiter is called.
type Waiter chan struct{}

// New returns an empty queue. A timer calls leaseExpired when the next lease has ended and a receive waits. It should take
// the stream's lock and call Expired.
func New(s Source, leaseExpired func()) Queue { return Queue{source: s, leaseExpired: leaseExpired} }

// Len returns how many receives wait.
func (q *Queue) Len() int { return len(q.waiters) }

// Join adds a waiter at the end.
func (q *Queue) Join() Waiter {
	w := make(Waiter, 1)
	q.waiters = append(q.waiters, w)
	q.Update()
	return w
}

// Update calls the first waiter when a message is available, and sets the timer for the next lease that ends.
func (q *Queue) Update() {
	if len(q.waiters) == 0 {
		q.stopTimer()
		return
	}
	if q.called == nil && q.source.Refresh(time.Now()) {
		q.called = q.waiters[0]
		q.called <- struct{}{}
	}
	q.startTimer()
}

// Expired handles the end of a lease that the timer has told.
func (q *Queue) Expired() {
	q.stopTimer()
	q.Update()
}

// startTimer sets the timer for the lease that ends next. When that lease is settled the timer keeps running. It then
// fires without effect, and is set again.
func (q *Queue) startTimer() {
	next, ok := q.source.NextExpiry()
	if !ok || q.timer != nil && !next.Before(q.at) {
		return
	}
	q.stopTimer()
	q.at = next
	q.timer = time.AfterFunc(time.Until(next), q.leaseExpired)
}

func (q *Queue) stopTimer() {
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
}

// Close removes and wakes all waiters. A waiter that is called already has a value in its channel.
func (q *Queue) Close() {
	q.stopTimer()
	for _, w := range q.waiters {
		if w != q.called {
			w <- struct{}{}
		}
	}
	q.waiters, q.called = nil, nil
}

// Leave removes a waiter, if it is in the queue.
func (q *Queue) Leave(w Waiter) {
	i := slices.Index(q.waiters, w)
	if i < 0 {
		return
	}
	q.waiters = slices.Delete(q.waiters, i, i+1)
	if q.called == w {
		q.called = nil
	}
	q.Update()
}

// Stay keeps a waiter that was called and received nothing at the head of the queue. It can be called again.
func (q *Queue) Stay(w Waiter) {
	if q.called == w {
		q.called = nil
		q.Update()
	}
}
