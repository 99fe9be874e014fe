package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// Attempts is the RoundTripper of one call. It makes the call's attempts, one after the other, and records what happened
// to the latest one. It has no CloseIdleConnections: go-retryablehttp calls that method when it stops, which
// would close connections of other calls and of other users of the caller's http.Client.
type Attempts struct {
	http.RoundTripper
	Body *Payload // of the requests; a Payload without JSON sends no body
	// Timeout of each attempt, until the answer's body is closed. http.Client.Timeout is not used: http.Client does not
	// know this RoundTripper, and would start a goroutine for each attempt.
	Timeout time.Duration
	// OnAnswer is called when an answer begins to arrive. It may be nil.
	OnAnswer func()

	began     time.Time
	untrusted atomic.Bool
}

// Began returns when the latest attempt began.
func (a *Attempts) Began() time.Time { return a.began }

// Untrusted reports whether the TLS handshake of the latest attempt failed or timed out.
func (a *Attempts) Untrusted() bool { return a.untrusted.Load() }

// RoundTrip makes one attempt.
func (a *Attempts) RoundTrip(req *http.Request) (*http.Response, error) {
	a.began = time.Now()
	ctx, cancel := context.WithTimeoutCause(req.Context(), a.Timeout, timeoutError(a.Timeout))
	trace := a.Body.trace()
	trace.GotFirstResponseByte = a.OnAnswer
	trace.TLSHandshakeDone = func(_ tls.ConnectionState, err error) { a.untrusted.Store(err != nil) }
	resp, err := a.RoundTripper.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &trace)))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &timedBody{resp.Body, cancel}
	return resp, nil
}

// timedBody ends the attempt's timeout when it is closed: the timeout covers the whole answer, not only its header.
type timedBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *timedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// timeoutError is the error of an attempt that took longer than its timeout.
type timeoutError time.Duration

func (e timeoutError) Error() string        { return fmt.Sprintf("no answer within %v", time.Duration(e)) }
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
func (e timeoutError) Timeout() bool        { return true }
