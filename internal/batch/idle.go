package batch

import (
	"slices"
	"time"
)

// idleFor is how long an engine has no items before it frees the memory that it keeps for later ones. The memory of a burst of 5,000
// messages is 1 MB, and a program may have thousands of Publishers and Subscribers. A busy engine that pauses for less keeps it.
const idleFor = 10 * time.Second

// rest frees the memory of an engine that has no items for a while. The engine's mutex guards it.
type rest struct {
	timer    *time.Timer // nil while it is not set
	admitted uint64      // Totals.Admitted when it was set
}

// restLocked sets the timer of an engine that has no items.
func (e *Engine[T, W]) restLocked() {
	if e.rest.timer == nil && e.state.live == 0 && !isClosed(e.drained) {
		e.rest = rest{timer: time.AfterFunc(idleFor, e.rested), admitted: e.state.totals.Admitted}
	}
}

// rested is called by the timer. It frees the memory if no item was admitted since the timer was set, and no lane backs off.
func (e *Engine[T, W]) rested() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rest.timer = nil
	switch {
	case isClosed(e.drained): // Close collects what is left without the lock
	case e.rest.admitted == e.state.totals.Admitted && !e.state.backsOff(time.Now()):
		e.state.free()
		e.alarm.free()
		if e.cfg.Rest != nil {
			e.cfg.Rest()
		}
	default:
		e.restLocked()
	}
}

// backsOff reports whether a lane backs off.
func (s *state[T, W]) backsOff(now time.Time) bool {
	return slices.ContainsFunc(s.lanes, func(l *lane[T, W]) bool { return now.Before(l.resume) })
}

// free frees the memory that is kept for later items. There are no items now. The first of them makes the lanes anew.
func (s *state[T, W]) free() {
	s.lanes, s.spreadOver = nil, s.tuner.want
	s.cutter, s.leaving = cutter{}, nil
	s.epochs = slices.Clone(s.epochs) // its array may be long after an outage
	if len(s.waiters) == 0 {
		s.waiters = nil
	}
}
