package flow

import (
	"sync"
	"time"
)

// Slots is how many requests of one kind may be in flight. The number grows by one with each request that ends while all are
// taken and that was quick compared with its time limit, so that it doubles in a round trip. After a time-out it is half of what it was. A
// link that is slow because it is thin keeps few in flight. Its methods may be called concurrently.
type Slots struct {
	mu                sync.Mutex // guards all below
	size, first, most int
	taken             int
}

// NewSlots returns Slots for first requests, never less, which may become most.
func NewSlots(first, most int) *Slots { return &Slots{size: first, first: first, most: most} }

// Size returns how many requests may be in flight.
func (s *Slots) Size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Begin records that a request is sent.
func (s *Slots) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
}

// End records that a request has ended, which might take up to limit. succeeded and timedOut report how.
func (s *Slots) End(took, limit time.Duration, succeeded, timedOut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch all := s.taken >= s.size; {
	case timedOut:
		s.size = max(s.first, s.size/2)
	case succeeded && all && took < limit/4 && s.size < s.most:
		s.size++
	}
	s.taken--
}
