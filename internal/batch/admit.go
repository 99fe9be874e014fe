package batch

import (
	"slices"
	"time"
)

// waiter is an admission that found no room.
type waiter[T any] struct {
	entry  Entry[T]
	lane   int
	urgent bool
	report uint64 // reports.begun when it arrived

	ready chan struct{} // closed when the wait is over
	over  bool          // the entry was admitted, or refused with err
	err   error
}

func (w *waiter[T]) end(err error) {
	w.over, w.err = true, err
	close(w.ready)
}

// reports is the state of the goroutine that reports and releases failed items; see Config.AsyncRelease.
type reports struct {
	begun   uint64 // reports that have begun
	running bool   // the latest one has not ended
}

// refusal returns why nothing is admitted now, or nil.
func (s *state[T, W]) refusal() error {
	if s.closed {
		return ErrClosed
	}
	return s.suspended
}

func (s *state[T, W]) hasRoom(size int) bool {
	return s.cfg.MaxItems == 0 || s.buffered < s.maxItems(s.tuner.want) && s.bytes+size <= s.cfg.MaxBytes
}

// enqueue puts a copy of e into a lane. It reports whether a batch may leave now that could not leave before.
func (s *state[T, W]) enqueue(e *Entry[T], lane int, urgent bool) (dispatch bool) {
	if len(s.lanes) == 0 {
		s.wake()
	}
	l, size := s.lanes[s.homes[lane]], e.Size
	e.epoch = s.epochs.current()
	var now time.Time
	if e.epoch.live == 0 || l.queued() == 0 { // to read the clock for each item would cost as much as all else here
		now = time.Now()
	}
	if e.epoch.live == 0 {
		e.epoch.began = now
	}
	e.epoch.live++
	s.live++
	s.totals.Admitted++
	s.buffered++
	s.bytes += size
	first := l.queued() == 0
	if l.limits.Count == 0 { // nothing has been dispatched yet
		l.limits = s.cfg.Limits(l.number)
	}
	l.queue.push(e, l.limits)
	if urgent {
		l.makeUrgent()
	}
	if first {
		l.since = now
	}
	if s.buffered == s.maxItems(s.tuner.want) {
		s.makeAllUrgent()
		return true
	}
	// An item between the first one and the one that fills the batch lets no batch leave.
	filled := l.queued() == l.limits.Count || l.limits.filled(l.queue.bytes) && !l.limits.filled(l.queue.bytes-size)
	// While a lane has candidates, this may be its only item that is allowed to leave.
	return first || urgent || filled || len(l.candidates.list) > 0
}

// hopeless reports whether w could wait for ever: no item in the buffer can still be sent, and the room of the failed items
// is freed either by the goroutines that admit items, or by a report that began before w arrived and may itself admit w.
func (s *state[T, W]) hopeless(w *waiter[T]) bool {
	return s.live == 0 && (!s.cfg.AsyncRelease || s.reports.running && s.reports.begun == w.report)
}

// grant admits waiters while the first one finds room. A smaller item that came later does not pass a large one.
func (s *state[T, W]) grant() {
	n := 0
	for ; n < len(s.waiters); n++ {
		w := s.waiters[n]
		if s.hasRoom(w.entry.Size) {
			s.enqueue(&w.entry, w.lane, w.urgent)
			w.end(nil)
		} else if s.hopeless(w) {
			w.end(ErrFailuresPending)
		} else {
			break
		}
	}
	s.waiters = slices.Delete(s.waiters, 0, n)
	if s.live == 0 {
		s.refuseHopeless()
	}
	if len(s.waiters) > 0 {
		s.makeAllUrgent()
	}
}

// refuseHopeless refuses all waiters that could wait for ever, not only the first one. The admission by a report may be
// queued behind one that waits for the next report, which cannot begin before this one ends.
func (s *state[T, W]) refuseHopeless() {
	s.waiters = slices.DeleteFunc(s.waiters, func(w *waiter[T]) bool {
		hopeless := s.hopeless(w)
		if hopeless {
			w.end(ErrFailuresPending)
		}
		return hopeless
	})
}

// withdraw removes a waiter whose ctx has ended. A smaller item behind it may find room now.
func (s *state[T, W]) withdraw(w *waiter[T]) {
	s.waiters = slices.DeleteFunc(s.waiters, func(o *waiter[T]) bool { return o == w })
	s.grant()
}

// refuseWaiters refuses every waiter with err.
func (s *state[T, W]) refuseWaiters(err error) {
	for _, w := range s.waiters {
		w.end(err)
	}
	s.waiters = nil
}

// release frees the room of failed items.
func (s *state[T, W]) release(items, bytes int) {
	s.buffered -= items
	s.bytes -= bytes
}
