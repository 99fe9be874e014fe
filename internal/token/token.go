// Package token keeps the token that a source has given, and asks the source again when the token is refused. It does not
// know what a token is for.
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
	call *call      // the call of Source that runs; nil for none
}

// call is a call of Source. Its result may be read once done is closed.
type call struct {
	done      chan struct{}
	token     string
	err       error
	abandoned bool // the ctx of the goroutine that made it ended, or Source panicked
}

// Get returns the known token, or asks Source. Goroutines that ask at the same time share one call, which has the ctx of
// the first; when that ends, another goroutine asks anew. The error is that of Source, or the cause of the end of ctx.
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

// join returns the call that runs. If there is none, mine is set, and the caller must run the one that is returned.
func (c *Cache) join() (running *call, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.call != nil {
		return c.call, false
	}
	c.call = &call{done: make(chan struct{}), abandoned: true}
	return c.call, true
}

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

// Refuse forgets a token that was refused, so that Source is asked for the next one. It does nothing if another token is
// known by now.
func (c *Cache) Refuse(token string) {
	if known := c.known.Load(); known != nil && *known == token {
		c.known.CompareAndSwap(known, nil)
	}
}
