package flow

import (
	"sync/atomic"
	"time"
)

// HandlingTimes keeps the latest times from a message's receive to its settle. The zero value is ready
// for use. Its methods may be called from any goroutine.
type HandlingTimes struct {
	count atomic.Uint64
	last  [256]atomic.Int64 // enough to include the slow ones of 200 workers, few enough to replace those of a bad minute soon
}

// Add adds the time of a message that was settled.
func (t *HandlingTimes) Add(took time.Duration) {
	t.last[(t.count.Add(1)-1)%uint64(len(t.last))].Store(int64(took))
}

// Count returns how many times were added.
func (t *HandlingTimes) Count() uint64 { return t.count.Load() }

// Extremes returns the shortest and the longest of the last 256 times, zero before the first one.
func (t *HandlingTimes) Extremes() (fastest, slowest time.Duration) {
	known := min(t.count.Load(), uint64(len(t.last)))
	for i := range known {
		took := time.Duration(t.last[i].Load())
		if i == 0 || took < fastest {
			fastest = took
		}
		slowest = max(slowest, took)
	}
	return fastest, slowest
}
