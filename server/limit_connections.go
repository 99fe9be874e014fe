package server

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
)

var errSurplus = &failure{
	status: http.StatusServiceUnavailable, retryAfter: retryAfter, hangUp: true,
	summary: "Too many connections: nothing was done. Use fewer connections, or raise the limit of the server",
}

// connections counts the open connections of the http.Servers of HTTPServer.
type connections struct {
	open atomic.Int64
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
	web.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			c.open.Add(-1)
		}
	}
}

func isSurplus(r *http.Request) bool { return r.Context().Value(surplus{}) != nil }
