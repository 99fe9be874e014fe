// Package breaker implements the circuit breaker of a Subscriber's handlers. It opens when ten handler calls in a row have
// failed, for example because a database is down. While it is open, it lets one delivery at a time through to a handler:
// the probe. The pause before the next probe grows with each probe that fails. One call that succeeds closes the breaker.
//
// A Breaker owns the count of failed calls, the step of the backoff and the current probe, under one mutex. It starts no
// goroutine and has no timer: its callers ask. It does not know what a delivery is. Callers name a delivery by a
// comparable token, such as a pointer that is unique to it.
package breaker

import (
	"sync"
	"time"
)

// threshold is how many calls in a row must fail before a Breaker opens. It is large enough that a few bad messages in
// a quiet stream do not open it, and small enough that an outage costs little more than what is in flight anyway.
const threshold = 10

// maxProbeSteps limits ProbeSize to 65,536, more than one receive can ask for.
const maxProbeSteps = 16

// Breaker is a circuit breaker. The zero Breaker is closed. SetPace must be called before the first Failed. All methods
// are safe for concurrent use.
type Breaker[T comparable] struct {
	mu     sync.Mutex // guards all below; held for arithmetic only
	wait   func(step int) time.Duration
	failed int       // calls in a row that failed while the breaker was closed
	steps  int       // how often it has opened since a call last succeeded; 0 is closed
	until  time.Time // no probe is let through before
	probe  T         // the delivery that was let through last; the zero T is none
}

// SetPace sets how long the breaker waits before a probe: wait(0) when it opens, wait(n) after n probes have failed.
func (b *Breaker[T]) SetPace(wait func(step int) time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wait = wait
}

// Open reports whether the breaker is open, and when the next probe may be let through.
func (b *Breaker[T]) Open() (open bool, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.steps > 0, b.until
}

// ProbeSize is how many messages a receive should ask for to find a probe. It doubles with each step: the messages that
// the server delivers first may be ones that always fail.
func (b *Breaker[T]) ProbeSize() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return 1 << min(max(b.steps-1, 0), maxProbeSteps)
}

// Try makes a delivery that has just arrived the probe if the breaker is open and a probe is due. It reports whether the
// delivery may be passed on. The next probe is due at giveUp, even if this one has no result by then.
func (b *Breaker[T]) Try(delivery T, now, giveUp time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.steps == 0 {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.probe, b.until = delivery, giveUp
	return true
}

// Admit reports whether a handler may be called with a delivery: the breaker is closed, or the delivery is the probe.
func (b *Breaker[T]) Admit(delivery T) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.steps == 0 || delivery == b.probe
}

// Succeeded records a call that succeeded. It reports whether that closed the breaker.
func (b *Breaker[T]) Succeeded() (closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var none T
	closed = b.steps > 0
	b.failed, b.steps, b.probe = 0, 0, none
	return closed
}

// Failed records a call that failed. It reports whether the breaker has opened, or stays open for another step, and how
// long it waits before the next probe.
//
// While the breaker is closed, only calls with counts set bring it closer to opening. While it is open, only the probe's
// call matters, because the others began before it opened. has reports whether a delivery belonged to the call; it runs
// under the breaker's mutex.
func (b *Breaker[T]) Failed(has func(T) bool, counts bool, now time.Time) (opened bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.steps > 0 && !has(b.probe):
		return false, 0
	case b.steps == 0:
		if counts {
			b.failed++
		}
		if b.failed < threshold {
			return false, 0
		}
	}
	var none T
	wait = b.wait(b.steps)
	b.steps++
	b.until, b.probe = now.Add(wait), none
	return true, wait
}

// Inconclusive records a call whose failure says nothing about the handler: the message was at fault, or the handler was
// not called. It reports whether that was the probe's call; the next probe is then due at once.
func (b *Breaker[T]) Inconclusive(has func(T) bool, now time.Time) (next bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.steps == 0 || !has(b.probe) {
		return false
	}
	var none T
	b.until, b.probe = now, none
	return true
}
