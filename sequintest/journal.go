package sequintest

import (
	"slices"
	"sync"
	"sync/atomic"
)

// maxKeptBytes bounds the bodies and answers in the journal. Without it a thousand requests of 8 MB would take 8 GB.
const maxKeptBytes = 32 << 20

// journal counts all requests and keeps the latest ones.
type journal struct {
	counts [opCount]atomic.Int64
	keep   int // how many requests are kept at most

	mu    sync.Mutex // guards all below and the kept requests; held for copying only
	kept  []*entry   // oldest first
	bytes int        // of the bodies and answers that are kept
}

// entry is a request in the journal. A request that was dropped while it ran is not changed any more, so that its answer
// does not count towards bytes.
type entry struct {
	request *Request
	dropped bool
}

// begin counts a request and keeps it.
func (j *journal) begin(r *Request) *entry {
	j.counts[Any].Add(1)
	j.counts[r.Op].Add(1)
	e := &entry{request: r}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kept = append(j.kept, e)
	j.bytes += len(r.Body)
	j.trimLocked()
	return e
}

// note changes a kept request. It has to be called before the client can get the answer, because a test may look at the
// journal as soon as it has the answer.
func (j *journal) note(e *entry, change func(*Request)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.dropped {
		return
	}
	j.bytes -= len(e.request.Answer)
	change(e.request)
	j.bytes += len(e.request.Answer)
	j.trimLocked()
}

func (j *journal) trimLocked() {
	for len(j.kept) > j.keep || j.bytes > maxKeptBytes && len(j.kept) > 0 {
		oldest := j.kept[0]
		oldest.dropped = true
		j.bytes -= len(oldest.request.Body) + len(oldest.request.Answer)
		j.kept[0] = nil
		j.kept = j.kept[1:]
	}
}

// count returns how many requests of an operation have arrived.
func (j *journal) count(op Op) int {
	if op >= opCount {
		return 0
	}
	return int(j.counts[op].Load())
}

// requests returns copies of the kept requests of the given operations, or of all if none is given.
func (j *journal) requests(ops []Op) []Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []Request
	for _, e := range j.kept {
		if len(ops) == 0 || slices.Contains(ops, e.request.Op) || slices.Contains(ops, Any) {
			found = append(found, e.request.clone())
		}
	}
	return found
}
