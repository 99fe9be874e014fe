package flow

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Link limits how many bytes the senders of one link send at once. Each of them alone may get through while all together time
// out: a [Sizes] cannot help then if a single message is too large for a share of the link. There is no limit until such a
// time-out is recorded. Its methods may be called concurrently. They start no goroutine.
type Link struct {
	all   int // the bytes beyond which a limit makes no difference
	small int // a request of at most that many bytes does not wait

	mu       sync.Mutex // guards all below
	limit    int        // 0 for none
	inFlight int
	waiting  []*place // first come first served
}

// place is a request that waits for its turn.
type place struct {
	bytes int
	turn  chan struct{} // closed when it may be sent
}

// Turn is what Begin tells about a request that may be sent.
type Turn struct {
	InFlight int  // the bytes in flight, those of the request included
	Waited   bool // for other requests
}

// NewLink returns a Link without a limit. Requests of at most small bytes never wait. A limit of at least all bytes is none.
func NewLink(small, all int) *Link { return &Link{small: small, all: all} }

// Begin waits until a request of that many bytes may be sent. End must follow unless ctx has ended.
func (l *Link) Begin(ctx context.Context, bytes int) (Turn, error) {
	l.mu.Lock()
	if bytes <= l.small || len(l.waiting) == 0 && l.fitsLocked(bytes) {
		defer l.mu.Unlock()
		l.inFlight += bytes
		return Turn{InFlight: l.inFlight}, nil
	}
	mine := &place{bytes: bytes, turn: make(chan struct{})}
	l.waiting = append(l.waiting, mine)
	l.mu.Unlock()
	select {
	case <-mine.turn:
		l.mu.Lock()
		defer l.mu.Unlock()
		return Turn{InFlight: l.inFlight, Waited: true}, nil
	case <-ctx.Done():
		l.leave(mine)
		return Turn{}, context.Cause(ctx)
	}
}

// fitsLocked reports whether a request of that many bytes may be sent now. One of any size may be sent alone, beside small
// ones.
func (l *Link) fitsLocked(bytes int) bool {
	return l.limit == 0 || l.inFlight <= l.small || l.inFlight+bytes <= l.limit
}

// leave gives up a place.
func (l *Link) leave(mine *place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, mine); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	} else {
		l.inFlight -= mine.bytes // its turn came at the same time
	}
	l.nextLocked()
}

// End records that a request of that many bytes has ended.
func (l *Link) End(bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight -= bytes
	l.nextLocked()
}

// nextLocked gives their turn to the requests that may be sent now.
func (l *Link) nextLocked() {
	for len(l.waiting) > 0 && l.fitsLocked(l.waiting[0].bytes) {
		first := l.waiting[0]
		l.waiting = slices.Delete(l.waiting, 0, 1)
		l.inFlight += first.bytes
		close(first.turn)
	}
}

// TimedOut records that a request of that many bytes, which cannot be made smaller, timed out while no other one got through.
// If other requests were in flight at its Turn, less is sent at once from now on.
func (l *Link) TimedOut(bytes int, at Turn) {
	if at.InFlight <= bytes+l.small {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit == 0 || l.limit > at.InFlight {
		l.limit = at.InFlight
	}
	l.limit = max(1, l.limit/2)
}

// Limited reports whether there is a limit.
func (l *Link) Limited() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit > 0
}

// Succeeded records a request that got through. The limit grows to what is sent in half of timeout at the rate of this
// request.
func (l *Link) Succeeded(bytes int, took, timeout time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit == 0 {
		return
	}
	carried := float64(bytes) / max(took, 1).Seconds() * timeout.Seconds() / 2
	if carried > float64(l.limit) {
		l.limit = int(min(carried, float64(l.all)))
	}
	if l.limit >= l.all {
		l.limit = 0
	}
	l.nextLocked()
}
