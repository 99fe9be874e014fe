// Package background runs functions of a program, such as callbacks and log handlers, beside the goroutine that has
// something to report. That goroutine must not wait for them: they may send through a Publisher whose lane it runs, or close
// the Subscriber whose loop it is.
//
// A [Queue] runs its functions one after the other. A [Group] runs them at once, and makes its owner wait when too many of
// them run. The zero values are ready. Their methods may be called from any goroutine.
package background

import (
	"context"
	"sync"
	"sync/atomic"
)

// Queue runs functions one after the other, on a goroutine that exists while there are any.
type Queue struct {
	mu      sync.Mutex // guards all below; not held while a function runs
	waiting []func()
	idle    chan struct{} // closed when no function is left; nil while none is
}

// Add makes the queue run f, unless limit functions wait already. 0 means no limit. It reports whether f is run.
func (q *Queue) Add(f func(), limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if limit > 0 && len(q.waiting) >= limit {
		return false
	}
	q.waiting = append(q.waiting, f)
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.run()
	}
	return true
}

// run runs the functions that wait. A function that ends its goroutine, as FailNow of a test does, ends run, and another run
// continues.
func (q *Queue) run() {
	returned := false
	defer func() {
		if !returned {
			go q.run()
		}
	}()
	for f := q.next(); f != nil; f = q.next() {
		f()
	}
	returned = true
}

// next removes and returns the oldest function, nil if there is none.
func (q *Queue) next() func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		close(q.idle)
		q.idle = nil
		return nil
	}
	f := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	return f
}

// Await waits until all functions have returned, or ctx ends.
func (q *Queue) Await(ctx context.Context) {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// Group runs functions at once, each on a goroutine of its own.
type Group struct {
	running atomic.Int64
	mu      sync.Mutex    // guards changed; not held while a function runs
	changed chan struct{} // closed when the next function returns; nil if nobody waits for that
}

// Go runs f. It never waits.
func (g *Group) Go(f func()) {
	g.running.Add(1)
	go func() {
		defer g.end()
		f()
	}()
}

func (g *Group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running.Add(-1)
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// Await waits until fewer than limit functions run, or ctx ends. It takes no lock if it need not wait.
func (g *Group) Await(ctx context.Context, limit int) {
	for g.running.Load() >= int64(limit) {
		changed := g.ifAtLeast(limit)
		if changed == nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// ifAtLeast returns nil if fewer than n functions run, and otherwise a channel that is closed when one of them returns.
func (g *Group) ifAtLeast(n int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running.Load() < int64(n) {
		return nil
	}
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}
