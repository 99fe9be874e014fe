package load

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Latencies are sorted durations.
type Latencies []time.Duration

// Percentile returns the duration within which p percent of the others are, or 0 if there are none.
func (l Latencies) Percentile(p float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[max(0, int(math.Ceil(p/100*float64(len(l))))-1)]
}

// stopwatch collects the times of the requests that send messages.
type stopwatch struct {
	mu    sync.Mutex // guards times
	times Latencies
}

// wrap returns a transport that measures each request to its answer.
func (s *stopwatch) wrap(next http.RoundTripper) http.RoundTripper { return timed{next, s} }

func (s *stopwatch) add(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, took)
}

// sorted returns the times. No request may run.
func (s *stopwatch) sorted() Latencies {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.times)
	return s.times
}

type timed struct {
	next  http.RoundTripper
	watch *stopwatch
}

func (t timed) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := t.next.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusOK && r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/messages") {
		t.watch.add(time.Since(began))
	}
	return resp, err
}
