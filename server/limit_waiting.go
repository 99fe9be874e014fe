package server

import (
	"net/http"
	"strconv"
	"sync"
)

// waiters counts the waiting receives of each consumer. The zero value is ready for use.
type waiters struct {
	mu       sync.Mutex
	consumer map[string]int // by id; no entry for none
}

// enter counts one more, or returns false when there are as many as the limit.
func (w *waiters) enter(id string, limit int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.consumer[id] >= limit {
		return false
	}
	if w.consumer == nil {
		w.consumer = map[string]int{}
	}
	w.consumer[id]++
	return true
}

func (w *waiters) leave(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.consumer[id]--; w.consumer[id] == 0 {
		delete(w.consumer, id)
	}
}

// total is the number of waiting receives.
func (w *waiters) total() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, of := range w.consumer {
		n += of
	}
	return n
}

func tooManyAtTheServer(limit int) *failure {
	return &failure{
		status:  http.StatusTooManyRequests,
		summary: "Too many receives of this consumer are waiting: this server allows " + strconv.Itoa(limit),
	}
}
