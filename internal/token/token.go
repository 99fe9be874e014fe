// Package token keeps a token in memory, and asks its source for another one when the token is refused. It does not know
// what the token is used for.
package token

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Cache keeps the token of a source. It may be used concurrently. It starts a goroutine for each call of the source.
type Cache struct {
	// Source returns a token. It is called by one goroutine at a time, and not while a token is known.
	Source func(ctx context.Context) (string, error)

	known atomic.Pointer[string]

	mu   sync.Mutex // guards call; not held while Source runs
	call *call      // the running call of Source; nil if none runs
}

// call is a call of Source. Its result may be read once done is closed.
type call struct {
	done      chan struct{}
	token     string
	err       error
	abandoned bool // its ctx ended, or Source did not return
	panicked  any  // the value of its panic
}

// errNotReturned is the error of a call whose Source ended its goroutine, as a test's FailNow does.
var errNotReturned = errors.New("it ended its goroutine")

// Get returns the known token, or calls Source. Concurrent callers share one call of Source, which has the ctx of the first
// caller. If that ctx ends, another caller calls Source again. The error is that of Source, or the cause of the end of ctx.
// Get returns when ctx ends, although Source may run on. A panic of Source is one of the first caller.
func (c *Cache) Get(ctx context.Context) (string, error) {
	for {
		if known := c.known.Load(); known != nil {
			return *known, nil
		}
		running, mine := c.join()
		if mine {
			go c.run(ctx, running)
		}
		select {
		case <-running.done:
			if mine && running.panicked != nil {
				panic(running.panicked)
			}
			if mine || !running.abandoned {
				return running.token, running.err
			}
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// join returns the running call. If there is none, it returns a new one and sets mine; the caller must run it.
func (c *Cache) join() (running *call, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.call != nil {
		return c.call, false
	}
	c.call = &call{done: make(chan struct{}), err: errNotReturned, abandoned: true}
	return c.call, true
}

// run calls Source and publishes the result. Source may be code that does not know ctx, and run has a goroutine of its own.
func (c *Cache) run(ctx context.Context, mine *call) {
	defer func() {
		mine.panicked = recover()
		if mine.err == nil {
			c.known.Store(&mine.token)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.call = nil
		close(mine.done)
	}()
	mine.token, mine.err = c.Source(ctx)
	mine.abandoned = mine.err != nil && ctx.Err() != nil
}

// Refuse forgets a token that was refused, so that the next Get calls Source. It does nothing if a newer token is known.
func (c *Cache) Refuse(token string) {
	if known := c.known.Load(); known != nil && *known == token {
		c.known.CompareAndSwap(known, nil)
	}
}
