// Package token keeps a token in memory, and asks its source for another one when the token is refused. It does not know
// what the token is used for.
package token

import (
	"context"
	"sync"
	"sync/atomic"
)

// Cache keeps the token of a source. It may be used concurrently. It starts no goroutine.
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
	abandoned bool // its ctx ended, or Source panicked
}

// Get returns the known token, or calls Source. Concurrent callers share one call of Source, which has the ctx of the first
// caller. If that ctx ends, another caller calls Source again. The error is that of Source, or the cause of the end of ctx.
func (c *Cache) Get(ctx context.Context) (string, error) {
	for {
		if known := c.known.Load(); known != nil {
			return *known, nil
		}
		running, mine := c.join()
		if mine {
			c.run(ctx, running)
			return running.token, running.err
		}
		select {
		case <-running.done:
			if !running.abandoned {
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
	c.call = &call{done: make(chan struct{}), abandoned: true}
	return c.call, true
}

// run calls Source and publishes the result.
func (c *Cache) run(ctx context.Context, mine *call) {
	defer func() {
		if mine.err == nil && !mine.abandoned {
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
