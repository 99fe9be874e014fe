package lease

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Work is the context of work on messages whose leases may be extended. It ends when End is called, or with its parent, and
// has no timer. It allocates nothing before its Done channel is needed: most calls of a handler return before that.
//
// A context that is made from it needs no goroutine. Package context finds the parent to attach to through Value.
type Work struct {
	parent context.Context // the Subscriber's
	values context.Context // read before those of parent; nil for none
	until  time.Time       // what Deadline returns; zero for that of held
	held   *Held

	making sync.Mutex // held while inner is made
	inner  atomic.Pointer[cancelable]
	ending atomic.Pointer[ending]
}

// cancelable is a context with its cancel function.
type cancelable struct {
	context.Context
	cancel context.CancelCauseFunc
}

// ending is how a Work has ended. The cause is nil when the work is done.
type ending struct{ cause error }

// workDone is the ending of work that is done.
var workDone = new(ending)

// NewWork returns the context of a call that ends at until at the latest. values must not end; its values hide those of
// parent.
func NewWork(parent, values context.Context, until time.Time) *Work {
	return &Work{parent: parent, values: values, until: until}
}

// End ends the context. A cause of nil means that the work is done: Err is then context.Canceled. Otherwise it is
// context.DeadlineExceeded, and context.Cause returns the cause. Later calls change nothing.
func (w *Work) End(cause error) {
	how := workDone
	if cause != nil {
		how = &ending{cause}
	}
	w.ending.CompareAndSwap(nil, how)
	// Order matters: context stores inner before it reads ending, so that one of both cancels.
	if in := w.inner.Load(); in != nil {
		in.cancel(w.ending.Load().cause)
	}
}

// Ended reports whether End has been called.
func (w *Work) Ended() bool { return w.ending.Load() != nil }

// context returns the context that is behind w.
func (w *Work) context() *cancelable {
	if in := w.inner.Load(); in != nil {
		return in
	}
	w.making.Lock()
	defer w.making.Unlock()
	if in := w.inner.Load(); in != nil {
		return in
	}
	in := new(cancelable)
	in.Context, in.cancel = context.WithCancelCause(w.parent)
	w.inner.Store(in)
	if how := w.ending.Load(); how != nil {
		in.cancel(how.cause)
	}
	return in
}

// Deadline implements context.Context.
func (w *Work) Deadline() (deadline time.Time, ok bool) {
	if w.until.IsZero() {
		return w.held.Lease().Deadline, true
	}
	return w.until, true
}

// Done implements context.Context.
func (w *Work) Done() <-chan struct{} { return w.context().Done() }

// Err implements context.Context.
func (w *Work) Err() error {
	how, err := w.ending.Load(), w.parent.Err()
	if in := w.inner.Load(); in != nil {
		err = in.Err()
	} else if how != nil {
		err = context.Canceled
	}
	if err != nil && how != nil && how.cause != nil {
		return context.DeadlineExceeded
	}
	return err
}

// Value implements context.Context.
func (w *Work) Value(key any) any {
	if w.values != nil {
		if v := w.values.Value(key); v != nil {
			return v
		}
	}
	if w.inner.Load() == nil && w.ending.Load() == nil {
		return w.parent.Value(key)
	}
	return w.context().Value(key) // finds the context for context.Cause, and for those made from w
}
