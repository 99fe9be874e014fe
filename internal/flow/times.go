package flow

import (
	"sync/atomic"
	"time"
)

// HandlingTimes keeps the latest times from a message's receive to its settle. The zero value is ready
// for use. Its methods may be called from any goroutine.
type HandlingTimes struct {
	count atomic.Uint64
	last  atomic.Pointer[lastTimes] // nil before the first one, because they take 2 KB
}

// lastTimes are enough to include the slow ones of 200 workers, and few enough to replace those of a bad minute soon.
type lastTimes [256]atomic.Int64

// Add adds the time of a message that was settled.
func (t *HandlingTimes) Add(took time.Duration) {
	last := t.last.Load()
	if last == nil {
		t.last.CompareAndSwap(nil, new(lastTimes))
		last = t.last.Load()
	}
	last[(t.count.Add(1)-1)%uint64(len(last))].Store(int64(took))
}

// Count returns how many times were added.
func (t *HandlingTimes) Count() uint64 { return t.count.Load() }

// Extremes returns the shortest and the longest of the last 256 times, zero before the first one.
func (t *HandlingTimes) Extremes() (fastest, slowest time.Duration) {
	last := t.last.Load()
	if last == nil {
		return 0, 0
	}
	for i := range min(t.count.Load(), uint64(len(last))) {
		took := time.Duration(last[i].Load())
		if i == 0 || took < fastest {
			fastest = took
		}
		slowest = max(slowest, took)
	}
	return fastest, slowest
}
