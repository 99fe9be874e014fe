package store

import (
	"slices"
	"time"
)

// waitQueue is the queue of waiting receives, first come first served. It calls one waiter at a time. The next waiter is
// called when the called one has received and more is available, or when it leaves without receiving. A change therefore
// wakes as many receives as it has messages for. A waitQueue has no lock: callers hold the stream's.
type waitQueue struct {
	backlog backlog
	// leaseExpired is what the timer calls, without the stream's lock.
	leaseExpired func()

	waiters []waiter
	called  waiter      // nil when no waiter is called
	timer   *time.Timer // runs while a receive waits and a lease is out
	at      time.Time   // when the timer fires
}

// waiter is the channel that calls a waiting receive. It has room for one value, and is empty unless the waiter is called.
type waiter chan struct{}

// join adds a waiter at the end.
func (q *waitQueue) join() waiter {
	w := make(waiter, 1)
	q.waiters = append(q.waiters, w)
	q.update()
	return w
}

// update calls the first waiter when a message is available, and sets the timer for the next lease that ends.
func (q *waitQueue) update() {
	if len(q.waiters) == 0 {
		q.stopTimer()
		return
	}
	if q.called == nil && q.backlog.refresh(time.Now()) {
		q.called = q.waiters[0]
		q.called <- struct{}{}
	}
	q.startTimer()
}

// startTimer sets the timer for the lease that ends next. When that lease is settled the timer keeps running. It then
// fires without effect, and is set again.
func (q *waitQueue) startTimer() {
	next, ok := q.backlog.nextExpiry()
	if !ok || q.timer != nil && !next.Before(q.at) {
		return
	}
	q.stopTimer()
	q.at = next
	q.timer = time.AfterFunc(time.Until(next), q.leaseExpired)
}

func (q *waitQueue) stopTimer() {
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
}

// close removes and wakes all waiters. A waiter that is called already has a value in its channel.
func (q *waitQueue) close() {
	q.stopTimer()
	for _, w := range q.waiters {
		if w != q.called {
			w <- struct{}{}
		}
	}
	q.waiters, q.called = nil, nil
}

// leave removes a waiter, if it is in the queue.
func (q *waitQueue) leave(w waiter) {
	i := slices.Index(q.waiters, w)
	if i < 0 {
		return
	}
	q.waiters = slices.Delete(q.waiters, i, i+1)
	if q.called == w {
		q.called = nil
	}
	q.update()
}

// stay keeps a waiter that was called and received nothing at the head of the queue. It can be called again.
func (q *waitQueue) stay(w waiter) {
	if q.called == w {
		q.called = nil
		q.update()
	}
}
