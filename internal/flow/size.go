package flow

import (
	"sync"
	"time"
)

// retrySize is how long a size that failed is not tried again. A link or a proxy with a limit then causes one failed
// request a minute.
const retrySize = time.Minute

// Sizes limits the requests of each of several senders to the size that reaches the server through its link and its proxies. A
// sender is a number. Its methods may be called concurrently.
type Sizes struct {
	Smallest, Largest int // each limit begins at Largest bytes and stays between the two

	mu sync.Mutex // guards of
	of map[int]*size
}

// size is what is known of a sender. A sender of which no request has failed has none.
type size struct {
	limit    int
	failed   int       // the size that failed, 0 for none
	failedAt time.Time // when that size failed
	passed   bool      // a request got through since the latest failure
}

// Limit returns the most bytes that a request of a sender may have. A single message may exceed it.
func (s *Sizes) Limit(sender int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if z := s.of[sender]; z != nil {
		return z.limit
	}
	return s.Largest
}

// Limited reports whether the limit of any sender is below Largest.
func (s *Sizes) Limited() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, z := range s.of {
		if z.limit < s.Largest {
			return true
		}
	}
	return false
}

// Failed records a request that was too large, or may have been too large because its answer did not come. It halves the
// limit, also when the same request fails again: after three failed attempts the limit is an eighth of the request's size.
func (s *Sizes) Failed(sender, bytes int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.of[sender]
	if z == nil {
		z = &size{limit: s.Largest, passed: true}
		if s.of == nil {
			s.of = map[int]*size{}
		}
		s.of[sender] = z
	}
	// Of several failures in a row only the first one marks its size as failed, because an outage may cause the others.
	if z.passed {
		z.failed, z.failedAt, z.passed = bytes, now, false
	}
	z.limit = max(s.Smallest, min(z.limit, bytes)/2)
}

// Succeeded records a request that got through. A request that was at least half as large as the limit doubles it. The
// limit does not grow beyond the bytes that can be sent in half of timeout at the rate of this request, nor to a size that
// has failed within the last minute.
func (s *Sizes) Succeeded(sender, bytes int, took, timeout time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.of[sender]
	if z == nil {
		return
	}
	z.passed = true
	if z.limit >= s.Largest || 2*bytes < z.limit {
		return
	}
	next := min(2*z.limit, s.Largest)
	if took > 0 {
		carried := float64(bytes) / took.Seconds() * timeout.Seconds() / 2
		next = int(min(float64(next), carried))
	}
	if z.failed > 0 && next >= z.failed {
		if now.Sub(z.failedAt) < retrySize {
			return
		}
		z.failed = 0
	}
	z.limit = max(z.limit, next)
}
