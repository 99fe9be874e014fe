package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

var errSurplus = &failure{
	status: http.StatusServiceUnavailable, retryAfter: retryAfter, hangUp: true,
	summary: "Too many connections: nothing was done. Use fewer connections, or raise the limit of the server",
}

// connections counts the open connections of the http.Servers of HTTPServer.
type connections struct {
	open   atomic.Int64
	silent sync.Map // from each net.Conn that has sent no request to the *time.Timer that closes it
}

// surplus is the key of a context whose connection is above the limit.
type surplus struct{}

// limit makes web count its connections and mark those above n. Their first request is answered, so that the client learns
// why the connection is closed.
func (c *connections) limit(web *http.Server, n int) {
	web.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		if c.open.Add(1) > int64(n) {
			return context.WithValue(ctx, surplus{}, true)
		}
		return ctx
	}
	web.ConnState = func(conn net.Conn, state http.ConnState) {
		c.limitSilence(conn, state, web.ReadHeaderTimeout)
		if state == http.StateClosed || state == http.StateHijacked {
			c.open.Add(-1)
		}
	}
}

// limitSilence closes a connection that has not sent the header of its first request within limit. net/http leaves it open
// for ever where HTTP/2 without TLS is allowed, up to Go 1.26.0 at least: it awaits the preface of HTTP/2 without a deadline.
func (c *connections) limitSilence(conn net.Conn, state http.ConnState, limit time.Duration) {
	if state == http.StateNew {
		if _, ok := conn.(*tls.Conn); !ok && limit > 0 {
			c.silent.Store(conn, time.AfterFunc(limit, func() { _ = conn.Close() })) // the only error is that it is closed
		}
		return
	}
	if timer, ok := c.silent.LoadAndDelete(conn); ok {
		timer.(*time.Timer).Stop()
	}
}

func isSurplus(r *http.Request) bool { return r.Context().Value(surplus{}) != nil }
