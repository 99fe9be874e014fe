package sequintest

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// FaultHandle observes a Fault and removes it. All methods may be called concurrently.
type FaultHandle struct {
	fault   Fault
	effect  effect
	faults  *faults
	removed chan struct{} // closed by Remove and by the server's Close

	mu      sync.Mutex // guards all below
	seen    int        // requests that matched
	hits    int
	changed chan struct{} // closed and set to nil at a hit; nil while no goroutine waits
}

// Hits returns how many requests the fault has affected. A request counts once the server has acted, if the fault lets it
// act first, and otherwise when it meets the fault, before a Delay.
func (h *FaultHandle) Hits() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hits
}

// Wait returns nil once there are n hits. It returns an error when ctx is done first, and when n hits are no longer
// possible: Count is smaller, the fault was removed or the server was closed.
func (h *FaultHandle) Wait(ctx context.Context, n int) error {
	for {
		ended := h.ended() // before the hits are read, so that a hit that came before the end counts
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

// Remove ends the fault. Requests that it delays proceed at once, so a long Delay and a Remove make a gate. Further calls
// do nothing.
func (h *FaultHandle) Remove() {
	h.faults.remove(h)
}

// matches reports whether the fault is meant for a request, whatever its Skip and Count.
func (h *FaultHandle) matches(r *Request) bool {
	return (h.fault.Op == Any || h.fault.Op == r.Op) && (h.fault.Match == nil || h.fault.Match(r))
}

// countMatch counts a request that matches, and reports whether it is after the first Skip and within the Count.
func (h *FaultHandle) countMatch() (within bool) {
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

// faults holds the faults of a server in the order in which they were set.
type faults struct {
	mu     sync.Mutex // guards all below; not held while a Match runs
	active []*FaultHandle
	ended  bool
}

// add returns the handle of a new fault. After end the fault is removed already.
func (f *faults) add(fault Fault, e effect) *FaultHandle {
	h := &FaultHandle{fault: fault, effect: e, faults: f, removed: make(chan struct{})}
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
		// The slice is cloned because a call of find that waits in a Match goes on reading it.
		f.active = slices.Delete(slices.Clone(f.active), i, i+1)
		close(h.removed)
	}
}

// end removes all faults, and those that are added later.
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

// find returns the first fault that affects a request, or nil, and counts the request with each fault that it passes:
// faults that only observe get a hit.
func (f *faults) find(r *Request) *FaultHandle {
	for _, h := range f.list() {
		if !h.matches(r) || !h.countMatch() {
			continue
		}
		if h.effect.kind != observe {
			return h
		}
		h.hit()
	}
	return nil
}
