package sequin_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// untilDeadline is a MaxHandling with which a handler has until its Deadline: no lease is extended.
const untilDeadline = time.Nanosecond

// errDown is a handler's error that may not recur.
var errDown = errors.New("the database is down")

// backlog makes the stream orders with n messages and a consumer of everything, and subscribes to it.
func (w *world) backlog(t *testing.T, n int, ackWait time.Duration, cfg sequin.SubscriberConfig) *sequin.Subscriber {
	t.Helper()
	w.stream(t, "orders", sequin.ConsumerOptions{AckWait: ackWait})
	w.publish(t, "k", n)
	return w.subscribe(t, cfg)
}

// hideMissing makes the start of a handler not notice that the stream "missing" does not exist.
func (w *world) hideMissing() {
	isMissing := func(r *sequintest.Request) bool { return strings.HasSuffix(r.Path, "/missing") }
	w.Fault(sequintest.Fault{Op: sequintest.GetStream, Match: isMissing, Status: 503, Count: 1})
}

// running is a call of Handle, HandleBatch or Pipe that has not returned.
type running struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// start calls run on a goroutine of its own. stop ends its ctx.
func (w *world) start(t *testing.T, run func(context.Context) error) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	r := &running{t: t, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = run(ctx)
	}()
	return r
}

// wait waits for the call to return, and returns its error.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(time.Hour):
		require.FailNow(r.t, "did not end within an hour")
	}
	return r.err
}

// stop ends the ctx of the call, and returns its error.
func (r *running) stop() error {
	r.t.Helper()
	r.cancel()
	return r.wait()
}

// requireSettled asserts that the first consumer of a stream has no available and no leased messages.
func (w *world) requireSettled(t *testing.T, stream string) {
	t.Helper()
	state, ok := w.Stream(stream)
	require.True(t, ok)
	require.Empty(t, state.Consumers[0].Outstanding, "outstanding")
	require.Zero(t, state.Consumers[0].Available, "available")
}

// data returns the data of a stream's messages by key, in their order.
func (w *world) data(t *testing.T, stream string) map[string][]string {
	t.Helper()
	state, ok := w.Stream(stream)
	require.True(t, ok)
	all := map[string][]string{}
	for _, m := range state.Messages {
		all[m.Key] = append(all[m.Key], m.Data)
	}
	return all
}

// callLog records handler calls and the errors that OnError gets. It is safe for concurrent use.
type callLog struct {
	mu     sync.Mutex
	began  time.Time // the first call
	calls  []call
	errors []error
}

// call is a handler call with a delivery.
type call struct {
	key, data string
	at        time.Duration // since the first call
}

func (b *callLog) note(d sequin.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.calls) == 0 {
		b.began = time.Now()
	}
	b.calls = append(b.calls, call{d.Key, d.Data, time.Since(b.began)})
}

// failed records an error. It is an OnError.
func (b *callLog) failed(_ sequin.Delivery, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errors = append(b.errors, err)
}

// times returns the number of calls for each key.
func (b *callLog) times() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[string]int{}
	for _, c := range b.calls {
		n[c.key]++
	}
	return n
}

// count returns the number of calls.
func (b *callLog) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.calls)
}

// reported returns the errors that OnError was called with.
func (b *callLog) reported() []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]error(nil), b.errors...)
}
