package store

import (
	"slices"
	"time"
)

// line is where receives wait, first come first served. It calls one waiter at a time. The next waiter is called when the
// called one has received and more is available, or when it leaves without receiving. A change therefore wakes as many
// receives as it has messages for. A line has no lock: callers hold the stream's.
type line struct {
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
func (l *line) join() waiter {
	w := make(waiter, 1)
	l.waiters = append(l.waiters, w)
	l.update()
	return w
}

// update calls the first waiter when a message is available, and sets the timer for the next lease that ends.
func (l *line) update() {
	if len(l.waiters) == 0 {
		l.stopTimer()
		return
	}
	if l.called == nil && l.backlog.refresh(time.Now()) {
		l.called = l.waiters[0]
		l.called <- struct{}{}
	}
	l.startTimer()
}

// startTimer sets the timer for the lease that ends next. When that lease is settled the timer keeps running: it fires for
// nothing, and is set again.
func (l *line) startTimer() {
	next, ok := l.backlog.nextExpiry()
	if !ok || l.timer != nil && !next.Before(l.at) {
		return
	}
	l.stopTimer()
	l.at = next
	l.timer = time.AfterFunc(time.Until(next), l.leaseExpired)
}

func (l *line) stopTimer() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// close removes and wakes all waiters. A waiter that is called already has a value in its channel.
func (l *line) close() {
	l.stopTimer()
	for _, w := range l.waiters {
		if w != l.called {
			w <- struct{}{}
		}
	}
	l.waiters, l.called = nil, nil
}

// leave removes a waiter, if it is in the line.
func (l *line) leave(w waiter) {
	i := slices.Index(l.waiters, w)
	if i < 0 {
		return
	}
	l.waiters = slices.Delete(l.waiters, i, i+1)
	if l.called == w {
		l.called = nil
	}
	l.update()
}

// stay keeps a waiter that was called and received nothing where it is, at the head. It can be called again.
func (l *line) stay(w waiter) {
	if l.called == w {
		l.called = nil
		l.update()
	}
}
