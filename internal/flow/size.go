package flow

import (
	"sync/atomic"
	"time"
)

// retrySize is how long a size that failed is not tried again. A link or a proxy with a limit then causes one failed
// request a minute.
const retrySize = time.Minute

// Size limits the requests of one sender to the size that reaches the server through its link and its proxies. Failed and
// Succeeded may be called by one goroutine at a time, and Limit by any.
type Size struct {
	limit             atomic.Int64
	smallest, largest int
	failed            int       // the size that failed, 0 for none
	failedAt          time.Time // when that size failed
	passed            bool      // a request got through since the latest failure
}

// NewSize returns a Size whose limit begins at largest bytes and stays between smallest and largest.
func NewSize(smallest, largest int) *Size {
	s := &Size{smallest: smallest, largest: largest, passed: true}
	s.limit.Store(int64(largest))
	return s
}

// Limit returns the most bytes that a request may have. A single message may exceed it.
func (s *Size) Limit() int { return int(s.limit.Load()) }

// Failed records a request that was too large, or may have been too large because its answer did not come. It halves the
// limit, also when the same request fails again: after three failed attempts the limit is an eighth of the request's size.
func (s *Size) Failed(bytes int, now time.Time) {
	// Of several failures in a row only the first one marks its size as failed, because an outage may cause the others.
	if s.passed {
		s.failed, s.failedAt, s.passed = bytes, now, false
	}
	s.limit.Store(int64(max(s.smallest, min(s.Limit(), bytes)/2)))
}

// Succeeded records a request that got through. A request that was at least half as large as the limit doubles it. The
// limit does not grow beyond the bytes that can be sent in half of timeout at the rate of this request, nor to a size that
// has failed within the last minute.
func (s *Size) Succeeded(bytes int, took, timeout time.Duration, now time.Time) {
	s.passed = true
	limit := s.Limit()
	if limit >= s.largest || 2*bytes < limit {
		return
	}
	next := min(2*limit, s.largest)
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
