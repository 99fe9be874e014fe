package sim

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// route is what lies between one client and the server: a proxy, and the link to it. The faults that are active now are
// those of the weather, which all routes share.
type route struct {
	weather  *weather
	next     *http.Transport
	up, down link
	dials    atomic.Int64
}

// newRoute returns the route of a client with these connections.
func newRoute(now *weather, connections *http.Transport) *route {
	r := &route{weather: now, next: connections}
	dial := connections.DialContext
	connections.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return r.dial(ctx, func() (net.Conn, error) { return dial(ctx, network, addr) })
	}
	return r
}

// errReadTimeout is the cause for which a proxy gives up.
var errReadTimeout = errors.New("the proxy's read time-out")

// errReset is the error of a read from a connection that the route has cut.
var errReset = errors.New("connection reset by peer")

// RoundTrip applies the limits of the proxy.
func (r *route) RoundTrip(req *http.Request) (*http.Response, error) {
	send := r.next.RoundTrip
	if f, ok := r.weather.is(readTimeout504, readTimeoutCut); ok {
		send = func(req *http.Request) (*http.Response, error) { return r.giveUp(req, f) }
	}
	resp, err := send(req)
	if f, ok := r.weather.is(answerLimit502, answerLimitCut); ok && err == nil {
		return limitAnswer(resp, f), nil
	}
	return resp, err
}

// giveUp makes a request and waits for the header of its answer no longer than the proxy's read time-out.
func (r *route) giveUp(req *http.Request, f faultPlan) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(f.Delay, func() { cancel(errReadTimeout) })
	resp, err := r.next.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	switch gone := errors.Is(context.Cause(ctx), errReadTimeout); {
	case err == nil:
		resp.Body = closer{resp.Body, func() { cancel(nil) }}
		return resp, nil
	case gone && f.Kind == readTimeout504:
		return pageTo(req, http.StatusGatewayTimeout), nil
	case gone:
		return nil, &net.OpError{Op: "read", Net: "memory", Err: errReset}
	}
	cancel(nil)
	return nil, err
}

// limitAnswer returns the answer as the proxy's client gets it.
func limitAnswer(resp *http.Response, f faultPlan) *http.Response {
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(f.Limit)+1))
	defer resp.Body.Close() // it was read to its end, or is not read on
	if len(body) > f.Limit {
		if f.Kind == answerLimit502 {
			return pageTo(resp.Request, http.StatusBadGateway)
		}
		body, err = body[:f.Limit], io.ErrUnexpectedEOF
	}
	limited := *resp
	limited.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		limited.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	}
	return &limited
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// closer is a body that calls a function when it is closed.
type closer struct {
	io.ReadCloser
	closed func()
}

func (c closer) Close() error {
	defer c.closed()
	return c.ReadCloser.Close()
}

// pageTo is a proxy's answer.
func pageTo(req *http.Request, status int) *http.Response {
	return answerTo(req, status, fmt.Sprintf(page, status))
}

func answerTo(req *http.Request, status int, body string) *http.Response {
	return &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

// dial makes a connection to the server, unless a balancer leads it to a broken backend.
func (r *route) dial(ctx context.Context, next func() (net.Conn, error)) (net.Conn, error) {
	n := r.dials.Add(1)
	if f, ok := r.weather.is(brokenBackend); ok && f.selects(r.weather.seed, n) {
		return dialBroken(f.Status), nil
	}
	return r.dialServer(ctx, n, next)
}

// dialServer makes the n-th connection, which is slow, or whose TLS handshake fails, as the weather is. The connections of
// sequintest have no TLS, so dialServer makes the calls of a failed handshake to the trace itself.
func (r *route) dialServer(ctx context.Context, n int64, next func() (net.Conn, error)) (net.Conn, error) {
	f, bad := r.weather.is(slowDial, failedHandshake)
	if bad = bad && f.selects(r.weather.seed, n); bad {
		sleep(ctx, f.Delay)
	}
	c, err := next()
	if err != nil {
		return nil, err
	}
	if bad && f.Kind == failedHandshake {
		_ = c.Close() // the only error is that it is closed already
		err := tls.AlertError(handshakeFailure)
		if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.TLSHandshakeDone != nil {
			trace.TLSHandshakeDone(tls.ConnectionState{}, err)
		}
		return nil, &net.OpError{Op: "remote error", Net: "memory", Err: err}
	}
	return &linkConn{Conn: c, route: r, closed: make(chan struct{})}, nil
}

// handshakeFailure is the alert of that name in RFC 8446.
const handshakeFailure = 40

// weather holds the faults of the routes that are active now.
type weather struct {
	seed uint64

	mu     sync.Mutex // guards active; held for copying only
	active []*faultPlan
}

// begin adds a fault, and returns the function that removes it.
func (w *weather) begin(f faultPlan) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &f
	w.active = append(w.active, p)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, x := range w.active {
			if x == p {
				w.active = without(w.active, i)
				return
			}
		}
	}
}

// is returns the fault of one of the kinds that began first and is active.
func (w *weather) is(kinds ...faultKind) (f faultPlan, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.active {
		for _, k := range kinds {
			if x.Kind == k {
				return *x, true
			}
		}
	}
	return faultPlan{}, false
}
