package flow

import "time"

// Shrunk follows whether a Window is smaller than it was. Only the goroutine of the Subscriber's loop uses it.
type Shrunk struct {
	seen   int // the size at the last look
	before int // the size before it shrank; 0 if it has not
	since  time.Time
}

// Change is what a look has found.
type Change uint8

// The changes that a Shrunk finds.
const (
	Same Change = iota
	Shrank
	Regrew // it has the size again that it had before
)

// Look looks at the size of the window. lasted is how long it was smaller, when it has regrown.
func (s *Shrunk) Look(now time.Time, size int) (c Change, lasted time.Duration) {
	switch {
	case s.before == 0 && size < s.seen:
		s.before, s.since, c = s.seen, now, Shrank
	case s.before > 0 && size >= s.before:
		s.before, c, lasted = 0, Regrew, now.Sub(s.since)
	}
	s.seen = size
	return c, lasted
}

// Unended reports whether the window is smaller than it was, and since when.
func (s *Shrunk) Unended() (since time.Time, is bool) { return s.since, s.before > 0 }
