package batch

import "time"

// idleFor is how long an engine has no items before it frees the memory that it keeps for later ones. The memory of a burst of 5,000
// messages is 1 MB, and a program may have thousands of Publishers and Subscribers. A busy engine that pauses for less keeps it.
const idleFor = 10 * time.Second

// rest frees the memory of an engine that has no items for a while. The engine's mutex guards it.
type rest struct {
	timer    *time.Timer
	set      bool   // the timer runs
	admitted uint64 // Totals.Admitted when it was set
}

// restLocked sets the timer of an engine that has no items.
func (e *Engine[T, W]) restLocked() {
	r := &e.rest
	if r.set || e.state.live > 0 || isClosed(e.drained) {
		return
	}
	r.set, r.admitted = true, e.state.totals.Admitted
	if r.timer == nil {
		r.timer = time.AfterFunc(idleFor, e.rested)
	} else {
		r.timer.Reset(idleFor)
	}
}

// rested is called by the timer. It frees the memory if no item was admitted since the timer was set.
func (e *Engine[T, W]) rested() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rest.set = false
	switch {
	case isClosed(e.drained): // Close collects what is left without the lock
	case e.rest.admitted == e.state.totals.Admitted:
		e.state.free()
	default:
		e.restLocked()
	}
}

// free frees the memory that is kept for later items. There are no items now.
func (s *state[T, W]) free() {
	for _, l := range s.lanes {
		l.queue.free()
	}
	s.cutter, s.leaving = cutter{}, nil
}
