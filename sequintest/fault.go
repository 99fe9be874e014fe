package sequintest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Fault says which requests go wrong, and how. Its zero value strikes every request and does nothing to it: such a fault
// observes, its handle counts and waits.
//
// What it does may be combined where the parts can follow one another: first Delay, then the request is acted on or not,
// then DelayAfter, then an answer, perhaps a broken one, or none. Anything else fails the test.
type Fault struct {
	Op    Op                  // Any, the zero value: every operation
	Match func(*Request) bool // nil: every request of Op; runs beside other requests, must not keep or change what it gets

	Skip  int // this many requests pass first
	Count int // and this many are struck; 0: all until the handle's Remove

	Delay      time.Duration // before the server acts; a client that leaves meanwhile leaves nothing done
	DelayAfter time.Duration // after the server acted, before its answer leaves

	Status int         // 200..599: answered in the server's place, which does not act
	Header http.Header // of that answer
	Body   string      // of that answer
	Acted  bool        // with Status: the server acts all the same, as behind a proxy that lost patience

	CutBefore bool // the connection breaks, the server did not act
	CutAfter  bool // the server acted, the connection breaks before its answer
	Truncate  int  // the answer breaks off after so many bytes of its body, always before its end; 0: it does not
	Garble    bool // the server acted, its answer is 200 with a body that is no JSON
}

// garbage is what Garble answers: it begins like JSON, as what a decoder believes longest.
const garbage = `{"data":[{"message":` + "\x00\xff" + `<html>`

// check names the first thing about the fault that makes no sense.
func (f Fault) check() error {
	answers := f.Status != 0
	for _, rule := range []struct {
		broken bool
		reason string
	}{
		{f.Op >= opCount, "Op is none of this package's"},
		{f.Skip < 0, "Skip is negative"},
		{f.Count < 0, "Count is negative; 0 strikes until Remove"},
		{f.Delay < 0, "Delay is negative"},
		{f.DelayAfter < 0, "DelayAfter is negative"},
		{f.Truncate < 0, "Truncate is negative"},
		{answers && (f.Status < 200 || f.Status > 599), "Status is not in 200..599"},
		{!answers && (f.Header != nil || f.Body != ""), "Header and Body belong to an answer: set Status"},
		{!answers && f.Acted, "Acted says what Status replaces: set Status"},
		{f.CutBefore && f.CutAfter, "CutBefore and CutAfter exclude one another"},
		{f.CutBefore && (answers || f.Garble || f.Truncate > 0 || f.DelayAfter > 0), "after CutBefore nothing can follow"},
		{f.CutAfter && (answers || f.Garble || f.Truncate > 0), "after CutAfter there is no answer"},
		{f.Garble && answers, "Garble and Status are two answers"},
		{f.DelayAfter > 0 && answers && !f.Acted, "DelayAfter follows the server's acting, which Status prevents: use Delay, or set Acted"},
	} {
		if rule.broken {
			return errors.New(rule.reason)
		}
	}
	return nil
}

// observes reports that the fault does nothing.
func (f Fault) observes() bool {
	return f.Delay == 0 && f.DelayAfter == 0 && f.Status == 0 && !f.CutBefore && !f.CutAfter && f.Truncate == 0 && !f.Garble
}

// strikesAfter reports that the server acts before the fault has its effect.
func (f Fault) strikesAfter() bool {
	return f.CutAfter || f.Garble || f.Acted || f.DelayAfter > 0 || f.Truncate > 0 && f.Status == 0
}

// FaultHandle observes and ends a Fault. All methods may be called concurrently.
type FaultHandle struct {
	fault   Fault
	faults  *faults
	removed chan struct{} // closed by Remove and by the server's Close

	mu      sync.Mutex // guards all below
	seen    int        // matching requests
	hits    int
	changed chan struct{} // closed and replaced at a hit; nil while nobody waits
}

// Hits returns how many requests were struck. One counts once the server has acted, where the fault lets it act first, and
// when it is struck otherwise, before a Delay.
func (h *FaultHandle) Hits() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hits
}

// Wait returns nil once there are n hits. It fails when ctx ends first, and when there cannot be so many any more, because
// Count is smaller, the fault was removed or the server closed.
func (h *FaultHandle) Wait(ctx context.Context, n int) error {
	for {
		ended := h.ended() // asked first: a hit that came before the end is seen
		hits, changed := h.watch()
		switch {
		case hits >= n:
			return nil
		case h.fault.Count > 0 && n > h.fault.Count:
			return fmt.Errorf("sequintest: waiting for %d hits of a fault with Count %d", n, h.fault.Count)
		case ended:
			return fmt.Errorf("sequintest: the fault ended after %d of %d hits", hits, n)
		}
		select {
		case <-changed:
		case <-h.removed:
		case <-ctx.Done():
			return fmt.Errorf("sequintest: %w after %d of %d hits", context.Cause(ctx), hits, n)
		}
	}
}

func (h *FaultHandle) ended() bool {
	select {
	case <-h.removed:
		return true
	default:
		return false
	}
}

func (h *FaultHandle) watch() (hits int, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	return h.hits, h.changed
}

// Remove ends the fault. Requests that it delays go on at once: a long Delay and a Remove make a gate. It may be called
// again.
func (h *FaultHandle) Remove() {
	h.faults.remove(h)
}

// take decides whether the fault strikes a request that matches.
func (h *FaultHandle) take() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fault.Count > 0 && h.seen >= h.fault.Skip+h.fault.Count {
		return false
	}
	h.seen++
	return h.seen > h.fault.Skip
}

func (h *FaultHandle) hit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hits++
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// faults are those of a server, in the order in which they were set.
type faults struct {
	mu     sync.Mutex // guards all below; never held over a Match
	active []*FaultHandle
	ended  bool
}

func (f *faults) add(fault Fault) *FaultHandle {
	h := &FaultHandle{fault: fault, faults: f, removed: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		close(h.removed)
		return h
	}
	f.active = append(f.active, h)
	return h
}

func (f *faults) remove(h *FaultHandle) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.active, h); i >= 0 {
		// Cloned, because a strike that waits in a Match goes on in the list that it began with.
		f.active = slices.Delete(slices.Clone(f.active), i, i+1)
		close(h.removed)
	}
}

// end removes all for good.
func (f *faults) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.active {
		close(h.removed)
	}
	f.active, f.ended = nil, true
}

func (f *faults) list() []*FaultHandle {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.active
}

// strike returns the fault that a request meets: the first that was set and applies. Observers see the request in passing.
func (f *faults) strike(r *Request) *FaultHandle {
	for _, h := range f.list() {
		applies := (h.fault.Op == Any || h.fault.Op == r.Op) && (h.fault.Match == nil || h.fault.Match(r))
		if !applies || !h.take() {
			continue
		}
		if !h.fault.observes() {
			return h
		}
		h.hit()
	}
	return nil
}
