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

// tap stands between a client and its connections: it notes what comes and goes, and can end all of it, as the end of a
// process does.
type tap struct {
	l     *ledger
	actor string
	next  http.RoundTripper
	gone  context.Context
	end   context.CancelFunc
	trips atomic.Uint64
}

func newTap(l *ledger, actor string, next http.RoundTripper) *tap {
	t := &tap{l: l, actor: actor, next: next}
	t.gone, t.end = context.WithCancel(context.Background())
	return t
}

// call is a request as its client saw it.
type call struct {
	actor, id string
	kind      callKind
	began     time.Time
	ended     time.Time
	order     int // of the ending, among all calls
	status    int // 0: no answer
	whole     bool
	answer    []byte
}

type callKind uint8

const (
	otherCall callKind = iota
	sendCall
	receiveCall
	settleCall
)

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

// RoundTrip reads the whole answer, so that what was noted is what the client gets.
func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	c := t.l.began(&call{actor: t.actor, id: r.Header.Get("X-Request-Id"), kind: kindOf(r)})
	defer t.l.ended(c)
	if t.gone.Err() != nil {
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper must; nothing was read of it
		}
		return nil, &net.OpError{Op: "dial", Net: "memory", Err: syscall.EHOSTUNREACH}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(t.gone, cancel)()
	pass(ctx, t.latency())
	resp, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // read to its end, or to the error that the client gets
	pass(ctx, t.latency())
	c.status, c.answer, c.whole = resp.StatusCode, body, err == nil
	again := io.Reader(bytes.NewReader(body))
	if err != nil {
		again = io.MultiReader(again, failing{err})
	}
	resp.Body = io.NopCloser(again)
	return resp, nil
}

// latency is how long a request travels, or an answer: up to half a millisecond, each time another time. Otherwise all
// that follows from one another would happen at one moment, and nobody could tell the order.
func (t *tap) latency() time.Duration {
	who := fnv.New64a()
	_, _ = io.WriteString(who, t.actor) // a hash takes everything
	d := drawer{rand.New(rand.NewPCG(t.l.s.Seed^who.Sum64(), t.trips.Add(1)))}
	return time.Duration(d.Int64N(int64(500 * time.Microsecond)))
}

// pass lets time pass, unless ctx ends.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
