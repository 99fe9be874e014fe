package sequin

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// payload is an encoded body, and what net/http tells of its way to the server. net/http may go on reading a body after
// the call has ended (an early answer, a cut connection), so its bytes may be used again only once released says so.
//
// What is told comes from net/http's trace, and not from a reader of our own: net/http sends the header of a body that it
// does not know in a packet of its own, which costs each small request a third of its time.
type payload struct {
	json  []byte
	hooks httptrace.ClientTrace // bound once, because a payload is used again and again

	asked   atomic.Bool  // a connection was asked for; never so where a RoundTripper tells nothing
	headed  atomic.Bool  // the header was written: until then the server cannot have acted
	got     atomic.Int32 // connections got, over all attempts
	written atomic.Int32 // of those, how many net/http has done with
}

// reader is a fresh view of the payload for one attempt.
func (p *payload) reader() (io.Reader, error) {
	p.asked.Store(false)
	p.headed.Store(false)
	if p.json == nil {
		return noBody{}, nil
	}
	return bytes.NewReader(p.json), nil
}

// trace returns hooks that tell p of an attempt's way.
func (p *payload) trace() httptrace.ClientTrace {
	if p.hooks.GetConn == nil {
		p.hooks = httptrace.ClientTrace{
			GetConn:      func(string) { p.asked.Store(true) },
			GotConn:      func(httptrace.GotConnInfo) { p.got.Add(1) },
			WroteHeaders: func() { p.headed.Store(true) },
			WroteRequest: func(httptrace.WroteRequestInfo) { p.written.Add(1) },
		}
	}
	return p.hooks
}

// sent reports whether all of the latest attempt's body may have reached the server.
func (p *payload) sent() bool { return p.headed.Load() || !p.asked.Load() }

// released reports whether net/http has done with the bytes. A RoundTripper that tells nothing may hold them for ever.
func (p *payload) released() bool { return p.asked.Load() && p.got.Load() == p.written.Load() }

// noBody is an empty body that is not http.NoBody: for that net/http would re-send a GET by itself when a reused
// connection ends early, and only our own loops repeat.
type noBody struct{}

func (noBody) Read([]byte) (int, error) { return 0, io.EOF }
func (noBody) Close() error             { return nil }

// attempts is the way that the attempts of one call take, one after the other. It hides CloseIdleConnections from
// go-retryablehttp, which calls it on giving up and would close what other calls, or other users of the caller's
// HTTPClient, are about to use.
type attempts struct {
	http.RoundTripper
	body *payload
	// timeout of each attempt. http.Client, which does not know this type, would start a goroutine for each.
	timeout   time.Duration
	answering func()      // of its request
	stranger  atomic.Bool // the peer did not get through the TLS handshake, in time or at all
}

func (a *attempts) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeoutCause(req.Context(), a.timeout, noAnswer(a.timeout))
	trace := a.body.trace()
	trace.GotFirstResponseByte = a.answering
	trace.TLSHandshakeDone = func(_ tls.ConnectionState, err error) { a.stranger.Store(err != nil) }
	resp, err := a.RoundTripper.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &trace)))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &timedBody{resp.Body, cancel}
	return resp, nil
}

// timedBody ends its attempt's timeout when it is closed: the answer has to be there in time, and not only its header.
type timedBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *timedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// noAnswer is the end of an attempt's timeout.
type noAnswer time.Duration

func (e noAnswer) Error() string        { return fmt.Sprintf("no answer within %v", time.Duration(e)) }
func (e noAnswer) Is(target error) bool { return target == context.DeadlineExceeded }
func (e noAnswer) Timeout() bool        { return true }
