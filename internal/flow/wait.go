package flow

import "time"

// Wait is how long a receive may wait at the server: as long as is configured, or less where a proxy cuts requests that wait
// for longer than its read time-out.
type Wait struct {
	limit time.Duration // 0 if none is known
	again time.Time     // when a longer wait is tried
}

const (
	// longerAfter is how long a limit is kept before twice as much is tried. A message that is delivered to a receive which
	// a proxy has just cut may be lost until its lease ends, so this is rare.
	longerAfter = 10 * time.Minute
	// leastWait is the shortest wait that is told apart from a failure of the server, and the least that is learned: a
	// server waits for no less.
	leastWait = 500 * time.Millisecond
	// cutTolerance is how much later than the end of the wait a proxy's answer may arrive that has the same time-out.
	cutTolerance = time.Second
)

// Limit returns the wait that is possible, at most wait.
func (w *Wait) Limit(now time.Time, wait time.Duration) time.Duration {
	if w.limit == 0 {
		return wait
	}
	if !now.Before(w.again) {
		w.again = now.Add(longerAfter)
		if w.limit *= 2; w.limit >= wait {
			w.limit = 0
			return wait
		}
	}
	return min(wait, w.limit)
}

// Cut notes that a receive that could wait for wait was cut after some time, without a byte of an answer. It reports whether
// the wait was the reason. If it was, the next wait is a quarter shorter than that time: what the proxy measures includes the
// way to the server.
func (w *Wait) Cut(now time.Time, wait, after time.Duration) bool {
	if wait == 0 || after < leastWait || after > wait+cutTolerance {
		return false
	}
	w.limit = max(leastWait, min(wait, after)*3/4)
	w.again = now.Add(longerAfter)
	return true
}
