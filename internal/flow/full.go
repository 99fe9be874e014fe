package flow

import "sync/atomic"

// Full is whether all room of a Subscriber is taken: no receive runs, and there is no room for one. Its methods may be called from any
// goroutine.
type Full struct {
	is   atomic.Bool
	told chan struct{}
}

// NewFull returns a Full that is not set.
func NewFull() *Full { return &Full{told: make(chan struct{}, 1)} }

// Set records whether all room is taken.
func (f *Full) Set(full bool) {
	f.is.Store(full)
	if !full {
		return
	}
	select {
	case f.told <- struct{}{}:
	default:
	}
}

// Is reports whether all room is taken.
func (f *Full) Is() bool { return f.is.Load() }

// Told returns a channel that gets a token each time that all room is taken.
func (f *Full) Told() <-chan struct{} { return f.told }
