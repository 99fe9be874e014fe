package transport

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"time"
)

// Attempts is the RoundTripper of one call. It makes the call's attempts, one after the other, and records the progress of
// the latest one. It has no CloseIdleConnections: go-retryablehttp calls that method when it stops, which
// would close connections of other calls and of other users of the caller's http.Client.
type Attempts struct {
	http.RoundTripper
	Peer *Peer    // shared by all calls of a Client
	Body *Payload // of the requests; a Payload without JSON sends no body
	// Timeout of each attempt, until the answer's body is closed. http.Client.Timeout is not used: http.Client does not
	// know this RoundTripper, and would start a goroutine for each attempt.
	Timeout time.Duration
	// OnStart is called when an attempt begins, and returns its context. It may be nil.
	OnStart func(context.Context) context.Context
	// OnAnswer is called when an answer begins to arrive. It may be nil.
	OnAnswer func()

	began time.Time
	major int // the HTTP version of the latest answer
}

// Began returns when the latest attempt began.
func (a *Attempts) Began() time.Time { return a.began }

// RoundTrip makes one attempt. It gives req its body.
func (a *Attempts) RoundTrip(req *http.Request) (*http.Response, error) {
	a.began, a.major = time.Now(), 0
	ctx := req.Context()
	if a.OnStart != nil {
		ctx = a.OnStart(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.Timeout, timeoutError(a.Timeout))
	trace := a.Body.trace(a.Peer)
	trace.GotFirstResponseByte = a.OnAnswer
	traced := httptrace.WithClientTrace(ctx, &trace)
	for {
		r := req.WithContext(traced)
		a.Body.closing = nil
		if !a.Peer.http1() && a.Peer.avoids() {
			r.Header = r.Header.Clone() // of this attempt alone: gotConn may add to it
			a.Body.closing = r.Header
		}
		a.Body.begin(r, a.Peer.http1())
		resp, err := a.RoundTripper.RoundTrip(r)
		switch {
		case err == nil:
			a.noteAnswer(resp)
			resp.Body = &timedBody{resp.Body, endedBy(cancel, resp)}
			return resp, nil
		case a.Body.refused && ctx.Err() == nil:
			// The connection was one to avoid and was closed before anything was written to it. The loop ends, because each
			// such connection is closed the first time.
			continue
		}
		cancel()
		return nil, err
	}
}

// refusalTime is how long the body of an answer other than success may take. Its status is known, and its body is small:
// without it an answer of Sequin's own counts as foreign.
const refusalTime = 5 * time.Second

// endedBy returns the function that ends an attempt when the body of its answer is closed. It is also called when the body of
// an answer other than success takes too long.
func endedBy(cancel context.CancelFunc, resp *http.Response) func() {
	if resp.StatusCode/100 == 2 {
		return cancel
	}
	timer := time.AfterFunc(refusalTime, cancel)
	return func() {
		timer.Stop()
		cancel()
	}
}

// noteAnswer learns from the header of an answer. Over HTTP/1 the connection of an answer other than success is avoided until Reuse
// allows it again. After the body has been read it may be too late, because another request may get the connection then.
func (a *Attempts) noteAnswer(resp *http.Response) {
	a.major = resp.ProtoMajor
	a.Peer.learn(a.major)
	if resp.StatusCode/100 != 2 && a.major == 1 {
		a.Reuse(false)
	}
}

// Reuse sets whether the connection of the latest attempt may be used again. Over HTTP/2 one more request may be made on it,
// which retires it: closing it would break the other requests that it carries.
func (a *Attempts) Reuse(again bool) {
	switch {
	case again:
		a.Peer.forgive(a.Body.conn)
	case a.Body.closing.Get("Connection") != "": // it is retired
	default:
		a.Peer.avoid(a.Body.conn)
	}
}

// timedBody ends the attempt's timeout when it is closed: the timeout covers the whole answer, not only its header.
type timedBody struct {
	io.ReadCloser
	end func()
}

func (b *timedBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// timeoutError is the error of an attempt that took longer than its timeout.
type timeoutError time.Duration

func (e timeoutError) Error() string        { return fmt.Sprintf("no answer within %v", time.Duration(e)) }
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
func (e timeoutError) Timeout() bool        { return true }
