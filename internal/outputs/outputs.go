// Package outputs records which deliveries wait for output messages: the results of a Pipe, and dead letters. An output
// message has been passed to a Publisher and is not yet confirmed.
//
// If a server accepts requests and does not answer, output messages stay in flight for longer than leases last. A message
// that is redelivered meanwhile must not be handled again, because that would send its outputs twice. The new delivery
// replaces the earlier one instead, and is settled when the outputs have ended.
//
// A [Set] owns the deliveries that wait; each is settled exactly once, after its last output message has ended. The
// package knows no Publisher and no server, and starts no goroutine.
package outputs

import "sync"

// Set holds the deliveries that wait for output messages, by the ID of their message. Its methods may be called
// concurrently.
type Set[ID comparable, D any] struct {
	later func(a, b D) bool // reports whether a's lease ends after b's

	mu   sync.Mutex // guards open, and fields of each Output; not held while a delivery is settled
	open map[ID]*Output[ID, D]
}

// Output is a delivery whose output messages are in flight. It is settled when the last of them has ended.
type Output[ID comparable, D any] struct {
	set    *Set[ID, D]
	id     ID
	settle func(D, error)

	// Guarded by set.mu.
	delivery D     // of those of the message, the one whose lease ends last
	count    int   // messages that have not ended
	err      error // of the first message that failed
}

// New returns an empty Set. later reports whether the lease of a ends after that of b.
func New[ID comparable, D any](later func(a, b D) bool) *Set[ID, D] {
	return &Set[ID, D]{later: later, open: map[ID]*Output[ID, D]{}}
}

// InFlight reports whether output messages of an earlier delivery of the message are in flight.
func (s *Set[ID, D]) InFlight(id ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[id] != nil
}

// TakeOver makes d the delivery that is settled when the output messages of an earlier delivery end. It reports false if
// none are in flight any more.
func (s *Set[ID, D]) TakeOver(id ID, d D) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeOverLocked(id, d)
}

// takeOverLocked keeps the delivery whose lease ends later. The earlier delivery may come second, from a handler that took
// longer than its lease.
func (s *Set[ID, D]) takeOverLocked(id ID, d D) bool {
	found := s.open[id]
	if found == nil {
		return false
	}
	if s.later(d, found.delivery) {
		found.delivery = d
	}
	return true
}

// Begin opens an Output of count messages for a delivery. When they have ended, settle is called once, with the delivery
// to settle and the first error. If an Output of the message is open already, TakeOver applies and Begin returns nil: two
// workers handle the same message if the first takes longer than its lease.
func (s *Set[ID, D]) Begin(id ID, d D, count int, settle func(D, error)) *Output[ID, D] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takeOverLocked(id, d) {
		return nil
	}
	o := &Output[ID, D]{set: s, id: id, settle: settle, delivery: d, count: count}
	s.open[id] = o
	return o
}

// End records that n of the messages have ended with err. After the last one it settles the delivery.
func (o *Output[ID, D]) End(n int, err error) {
	o.set.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	o.count -= n
	d, err, last := o.delivery, o.err, o.count == 0
	if last {
		delete(o.set.open, o.id)
	}
	o.set.mu.Unlock()
	if last {
		o.settle(d, err)
	}
}

// Complete records that one message has ended with err. It ignores the number of the message, which a Publisher passes.
func (o *Output[ID, D]) Complete(_ int, err error) (woke bool) {
	o.End(1, err)
	return false
}
