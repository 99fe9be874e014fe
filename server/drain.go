package server

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
)

// drain counts the running requests, and tells when the last one is answered after the begin of a stop.
type drain struct {
	running  atomic.Int64
	stopping atomic.Bool
	start    chan struct{} // closed when the stop begins
	idle     chan struct{} // closed when no request runs afterwards
	begin    func()        // starts the stop; may be called more than once
	end      func()        // closes idle; may be called more than once
}

func newDrain() *drain {
	d := &drain{start: make(chan struct{}), idle: make(chan struct{})}
	d.end = sync.OnceFunc(func() { close(d.idle) })
	d.begin = sync.OnceFunc(func() {
		d.stopping.Store(true)
		close(d.start)
		if d.running.Load() == 0 {
			d.end()
		}
	})
	return d
}

func (d *drain) begun() bool { return d.stopping.Load() }

// enter counts a request, and returns false if the stop has begun. leave must be called in both cases. The count is
// raised before the look at the stop, and begin looks at the count after it, so that one of them sees the other.
func (d *drain) enter() bool {
	d.running.Add(1)
	return !d.begun()
}

func (d *drain) leave() {
	if d.running.Add(-1) == 0 && d.begun() {
		d.end()
	}
}

// errStopping is the answer to a request that comes during a stop. Another server, or this one after its start, answers it.
var errStopping = &failure{
	status: http.StatusServiceUnavailable, retryAfter: retryAfter, hangUp: true,
	summary: "Server is stopping: nothing was done. Send the request again",
}

// Drain prepares a stop of the process while the listener still accepts connections. Every receive that waits answers an
// empty list at once, /readyz answers 503, and so does every later request of the API, which may be sent again. Requests that
// run are answered as usual. Drain returns nil when they are, or an error when ctx ends first. The Server cannot be used
// again. Drain may be called more than once.
func (s *Server) Drain(ctx context.Context) error {
	s.drain.begin()
	select {
	case <-s.drain.idle:
		return nil
	case <-ctx.Done():
	}
	return fmt.Errorf("%d requests still run: %w", s.drain.running.Load(), context.Cause(ctx))
}
