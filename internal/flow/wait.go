package flow

import "time"

// Wait limits how long a receive waits at the server: as long as is configured, or less if a proxy cuts requests that wait
// for longer than its read time-out.
type Wait struct {
	limit time.Duration // 0 if none is known
	again time.Time     // when a longer wait is tried
}

const (
	// longerAfter is how long a limit is kept before twice the limit is tried. It is long, because a message that is
	// delivered to a receive which a proxy has just cut is not available until its lease ends.
	longerAfter = 10 * time.Minute
	// leastWait is the smallest limit, because a server accepts no shorter wait. A receive that is cut sooner has met another
	// failure.
	leastWait = 500 * time.Millisecond
	// cutTolerance is how long after the end of the wait a proxy with the same time-out may still cut the receive.
	cutTolerance = time.Second
)

// Limit returns how long a receive may wait: wait, or the limit if that is shorter.
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

// Cut records that a receive that could wait for wait was cut after the time after, without a byte of an answer. It reports
// whether the wait was the reason. If it was, the new limit is a quarter shorter than that time, because the proxy's time-out
// includes the time to reach the server.
func (w *Wait) Cut(now time.Time, wait, after time.Duration) bool {
	if wait == 0 || after < leastWait || after > wait+cutTolerance {
		return false
	}
	w.limit = max(leastWait, min(wait, after)*3/4)
	w.again = now.Add(longerAfter)
	return true
}
