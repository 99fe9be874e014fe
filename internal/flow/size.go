package flow

import (
	"sync/atomic"
	"time"
)

// retrySize is how long a size that failed is not tried again: a link or a proxy with a limit then costs one failed request
// a minute.
const retrySize = time.Minute

// Size is how large the requests of one sender may be, where the way to the server carries only so much. One goroutine at
// a time may call Failed and Succeeded; Limit may be called from any.
type Size struct {
	limit       atomic.Int64
	least, most int
	failed      int       // the size that failed latest, 0 for none
	failedAt    time.Time // when
	passed      bool      // a request got through since the latest failure
}

// NewSize returns a Size that begins at most bytes, and does not go below least.
func NewSize(least, most int) *Size {
	s := &Size{least: least, most: most, passed: true}
	s.limit.Store(int64(most))
	return s
}

// Limit returns the most bytes that a request may have. A single message may exceed it.
func (s *Size) Limit() int { return int(s.limit.Load()) }

// Failed records a request that was too large, or may have been, because its answer did not come. It halves the limit, also
// when the same request fails again: three attempts at a request find a size eight times smaller.
func (s *Size) Failed(bytes int, now time.Time) {
	// Of several failures in a row only the first one tells a size not to try: the others may be those of an outage.
	if s.passed {
		s.failed, s.failedAt, s.passed = bytes, now, false
	}
	s.limit.Store(int64(max(s.least, min(s.Limit(), bytes)/2)))
}

// Succeeded records a request that got through. A request that was at least half as large as the limit doubles it. The
// limit does not grow beyond what the way carries in half of timeout, at the rate of this request, and not to a size that
// has failed within a minute.
func (s *Size) Succeeded(bytes int, took, timeout time.Duration, now time.Time) {
	s.passed = true
	limit := s.Limit()
	if limit >= s.most || 2*bytes < limit {
		return
	}
	next := min(2*limit, s.most)
	if took > 0 {
		carried := float64(bytes) / took.Seconds() * timeout.Seconds() / 2
		next = int(min(float64(next), carried))
	}
	if s.failed > 0 && next >= s.failed {
		if now.Sub(s.failedAt) < retrySize {
			return
		}
		s.failed = 0
	}
	s.limit.Store(int64(max(limit, next)))
}
