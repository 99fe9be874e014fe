package server

import (
	"crypto/subtle"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ServeHTTP answers every route of the API. When a handler panics, the request is answered 500 and the panic is logged.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{srv: s, w: w, r: r, arrived: time.Now(), shutdown: s.shutdowns.of(r)}
	defer c.recover()
	id := r.Header.Get("X-Request-Id")
	// The 2024 server accepts request ids of these lengths.
	if len(id) < 20 || len(id) > 200 {
		id = uuid.NewString()
	}
	w.Header().Set("X-Request-Id", id)
	c.announce()
	if c.hasBody() {
		c.setBodyDeadline(c.arrived.Add(bodyTimeout))
	}
	switch {
	case s.isClosed():
		c.fail(errClosed)
	case !s.authorized(r):
		c.fail(errUnauthorized)
	default:
		if err := c.route(); err != nil {
			c.fail(c.failureOf(err))
		}
	}
}

func (s *Server) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

func (c *call) recover() {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	c.srv.log.Error("handler panicked", "method", c.r.Method, "path", c.r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	c.fail(errInternal)
}

func (s *Server) authorized(r *http.Request) bool {
	if s.token == "" {
		return true
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1
}
