// Package outage follows whether a server is available, and says when it is not, and when it is again.
//
// An [Outage] belongs to a Publisher or a Subscriber, which reports its failures and successes. It owns the error of the latest
// failure and the time of the first one, under its lock. It calls back with the lock held, so that the calls are in order; the
// callbacks must not wait.
package outage

import (
	"sync"
	"sync/atomic"
	"time"
)

// interval is the least time between two beginnings that are told. Without it a server that fails every other request would cause a
// line in the log for each, because every success ends the outage.
const interval = time.Minute

// Outage is what is known of an outage, if there is one. Its methods may be called from any goroutine.
type Outage struct {
	Begun func(err error)                          // an outage has begun, or goes on
	Over  func(lasted time.Duration, failures int) // one that Begun has told of is over

	cause atomic.Pointer[failure] // nil after a success
	mu    sync.Mutex              // guards all below, and changes of cause
	told  bool                    // Begun was called for this outage
	next  time.Time               // when Begun may be called again
}

type failure struct {
	err   error     // the latest
	since time.Time // of the first since a success
	count int       // since then
}

// Note records a failure that is told in another way.
func (o *Outage) Note(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.noteLocked(err)
}

func (o *Outage) noteLocked(err error) {
	f := failure{err: err, since: time.Now(), count: 1}
	if before := o.cause.Load(); before != nil {
		f.since, f.count = before.since, before.count+1
	}
	o.cause.Store(&f)
}

// Failed records a failure, and tells it if it begins an outage.
func (o *Outage) Failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.noteLocked(err)
	if now := time.Now(); !o.told && !now.Before(o.next) {
		o.told, o.next = true, now.Add(interval)
		o.Begun(err)
	}
}

// Succeeded records a success. It tells the end of an outage whose beginning was told.
func (o *Outage) Succeeded() {
	f := o.cause.Load()
	if f == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cause.Store(nil)
	if o.told {
		o.told = false
		o.Over(time.Since(f.since), f.count)
	}
}

// Unended reports whether an outage was told that is not over, and how long it has lasted. It is not told any more that it is over.
func (o *Outage) Unended() (lasted time.Duration, told bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	told, o.told = o.told, false
	if f := o.cause.Load(); f != nil {
		lasted = time.Since(f.since)
	}
	return lasted, told
}

// Cause returns the error of the latest failure, nil after a success.
func (o *Outage) Cause() error {
	if f := o.cause.Load(); f != nil {
		return f.err
	}
	return nil
}

// Since returns when the first request failed since one has succeeded, the zero time after a success.
func (o *Outage) Since() time.Time {
	if f := o.cause.Load(); f != nil {
		return f.since
	}
	return time.Time{}
}
