package sim

import (
	"bytes"
	"context"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
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

// RoundTrip reads the whole answer before the client gets it, so that it can be recorded.
func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	c := t.rec.callBegan(&call{actor: t.actor, id: r.Header.Get("X-Request-Id"), kind: kindOf(r)})
	defer t.rec.callEnded(c)
	if t.connected.Err() != nil {
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper must close it
		}
		return nil, &net.OpError{Op: "dial", Net: "memory", Err: syscall.EHOSTUNREACH}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(t.connected, cancel)()
	sleep(ctx, t.latency())
	resp, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it was read to its end, or to the error that the client gets
	sleep(ctx, t.latency())
	c.status, c.answer, c.whole = resp.StatusCode, body, err == nil
	again := io.Reader(bytes.NewReader(body))
	if err != nil {
		again = io.MultiReader(again, failing{err})
	}
	resp.Body = io.NopCloser(again)
	return resp, nil
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

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
