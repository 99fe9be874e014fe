package server

import (
	"crypto/sha256"
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
	running := s.drain.enter()
	defer c.end()
	defer c.recover()
	id := r.Header.Get("X-Request-Id")
	if !isRequestID(id) {
		id = uuid.NewString()
	}
	w.Header().Set("X-Request-Id", id)
	c.announce()
	if c.hasBody() {
		c.setBodyDeadline(c.arrived.Add(bodyTimeout))
	}
	if err := c.dispatch(running); err != nil {
		c.fail(c.failureOf(err))
	}
}

// isRequestID reports whether an X-Request-Id is kept. The 2024 server keeps those of these lengths.
func isRequestID(id string) bool { return len(id) >= 20 && len(id) <= 200 }

// dispatch answers the request if nothing keeps it from the API. running is false after the begin of a stop.
func (c *call) dispatch(running bool) error {
	s := c.srv
	c.allowOrigin()
	if isSurplus(c.r) {
		c.w.Header().Set("Connection", "close")
	}
	switch {
	case isHealth(c.r):
		return c.health()
	case isClosed(s.closed):
		return errClosed
	case !running:
		return errStopping
	case isSurplus(c.r):
		return errSurplus
	}
	if refused := c.refusal(); refused != nil {
		return refused
	}
	if c.isConsole() {
		return c.showConsole()
	}
	if c.isPreflight() {
		return c.preflight()
	}
	metrics := s.isMetrics(c.r)
	if c.rights = s.rightsOf(c.r); c.rights == 0 && !(metrics && s.openMetrics && !wasForwarded(c.r.Header)) && !c.isSinkCall() {
		return errUnauthorized
	}
	if metrics {
		c.answered.Route, c.answered.Status = "GET metrics", http.StatusOK
		s.metrics.ServeHTTP(c.w, c.r)
		return nil
	}
	if c.srv.dialect.plug {
		defer c.releasePlug()
		if err := c.admitPlug(); err != nil {
			return err
		}
	}
	return c.route()
}

// end runs after the answer.
func (c *call) end() {
	c.release()
	c.observe()
	c.srv.drain.leave()
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
	// The sums have one length, so that the time of the comparison does not depend on that of the token.
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.token))
	return ok && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
