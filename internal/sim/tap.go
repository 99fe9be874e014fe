package sim

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// tap is the http.RoundTripper of one client. It records each request as the client sees it. disconnect ends all requests
// and refuses new ones, as when the client's process is killed.
type tap struct {
	rec        *recorder
	actor      string
	next       http.RoundTripper
	connected  context.Context
	disconnect context.CancelFunc
	trips      atomic.Uint64
	subscribed atomic.Bool // its worker has a Subscriber
}

func newTap(rec *recorder, actor string, next http.RoundTripper) *tap {
	t := &tap{rec: rec, actor: actor, next: next}
	t.connected, t.disconnect = context.WithCancel(context.Background())
	return t
}

// kindOf returns what a request is for.
func kindOf(r *http.Request) callKind {
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/receive"):
		return receiveCall
	case strings.HasSuffix(path, "/ack"), strings.HasSuffix(path, "/nack"):
		return settleCall
	case strings.HasSuffix(path, "/messages") && r.Method == http.MethodPost:
		return sendCall
	}
	return otherCall
}

// RoundTrip makes a request. The call ends with the answer's last byte, with its Close, or with an error.
func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := kindOf(r)
	if kind == settleCall && !t.subscribed.Load() {
		kind = otherCall // by SubscribeSink, which looks for the sink
	}
	c := t.rec.callBegan(&call{actor: t.actor, id: r.Header.Get("X-Request-Id"), kind: kind})
	if t.connected.Err() != nil {
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper must close it
		}
		t.rec.callEnded(c)
		return nil, &net.OpError{Op: "dial", Net: "memory", Err: errors.New("no route to host")}
	}
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(t.connected, cancel)
	end := func() {
		stop()
		cancel()
		t.rec.callEnded(c)
	}
	sleep(ctx, t.latency())
	resp, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		end()
		return nil, err
	}
	sleep(ctx, t.latency())
	c.status = resp.StatusCode
	resp.Body = &tappedBody{body: resp.Body, ctx: ctx, call: c, end: sync.OnceFunc(end)}
	return resp, nil
}

// tappedBody records an answer while the client reads it. It reads no more than the client does: a client that wants no
// further request on a connection closes the answer before its end.
type tappedBody struct {
	body io.ReadCloser
	ctx  context.Context
	call *call
	end  func()
}

func (b *tappedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.call.answer = append(b.call.answer, p[:n]...)
	if err != nil {
		b.call.whole, b.call.late = err == io.EOF, b.ctx.Err() != nil
		b.end()
	}
	return n, err
}

func (b *tappedBody) Close() error {
	defer b.end()
	return b.body.Close()
}

// latency returns how long a request or an answer is in transit: up to half a millisecond, drawn anew each time. Without it
// events that follow from one another would have the same virtual time, and the checks could not know their order.
func (t *tap) latency() time.Duration {
	who := fnv.New64a()
	_, _ = io.WriteString(who, t.actor) // a hash returns no error
	d := drawer{rand.New(rand.NewPCG(t.rec.s.Seed^who.Sum64(), t.trips.Add(1)))}
	return time.Duration(d.Int64N(int64(500 * time.Microsecond)))
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
