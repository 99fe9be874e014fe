package server

import (
	"context"
	"net/http"
	"time"
)

// The paths that tell how the server is. No token is needed for the first two.
const (
	healthPath  = "/healthz"
	readyPath   = "/readyz"
	metricsPath = "/metrics"
)

// probeTimeout is how long /readyz waits for the store.
const probeTimeout = 5 * time.Second

// isHealth reports whether the request asks whether the server is alive or ready.
func isHealth(r *http.Request) bool {
	return (r.URL.Path == healthPath || r.URL.Path == readyPath) && isRead(r)
}

func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// health answers /healthz and /readyz.
func (c *call) health() error {
	c.answered.Route = "GET " + c.r.URL.Path[1:]
	if c.r.URL.Path == readyPath {
		if err := c.checkReady(); err != nil {
			return err
		}
	}
	return c.ok(map[string]string{"status": "ok"})
}

// isMetrics reports whether the request asks for metrics that the server has.
func (s *Server) isMetrics(r *http.Request) bool {
	return s.metrics != nil && r.URL.Path == metricsPath && isRead(r)
}

// checkReady returns why the server should get no requests, or nil.
func (c *call) checkReady() error {
	switch {
	case isClosed(c.srv.closed):
		return errClosed
	case c.srv.drain.begun() || isClosed(c.shutdown):
		return errStopping
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), probeTimeout)
	defer cancel()
	if err := c.srv.store.Probe(ctx); err != nil {
		return &failure{status: http.StatusServiceUnavailable, summary: "Not ready: the store does not answer: " + err.Error()}
	}
	return nil
}

// isClosed reports whether a channel that only ever is closed is closed. A nil channel is not.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
