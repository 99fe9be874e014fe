package sequin_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// logs keeps what a client logs. It is safe for concurrent use.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// logged runs a promise with a client whose log is kept.
func logged(t *testing.T, promise func(t *testing.T, w *world, log *logs)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log logs
		promise(t, newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}), &log)
	})
}

func TestAPanicOfOnErrorIsLoggedAndStopsNothing(t *testing.T) {
	for name, fail := range map[string]struct {
		with error
		dead *sequin.DeadLetter
	}{
		"of a failed handler call":         {with: errDown},
		"of a dead letter that is invalid": {with: sequin.Permanent(errDown), dead: &sequin.DeadLetter{Stream: "dead", Key: func(sequin.Delivery) string { return "" }}},
		"of a dead letter that is refused": {with: sequin.Permanent(errDown), dead: &sequin.DeadLetter{Stream: "missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			logged(t, func(t *testing.T, w *world, log *logs) {
				w.deadStream(t)
				w.hideMissing()
				sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
				var b callLog
				cfg := sequin.HandlerConfig{DeadLetter: fail.dead, OnError: func(d sequin.Delivery, err error) {
					b.failed(d, err)
					explode("a broken callback")
				}}
				run := w.start(t, func(ctx context.Context) error {
					return sub.Handle(ctx, cfg, func(context.Context, sequin.Delivery) error { return fail.with })
				})
				time.Sleep(5 * time.Minute)
				require.NoError(t, run.stop())
				require.GreaterOrEqual(t, len(b.reported()), 5, "it is called again")
				require.Contains(t, log.String(), "OnError panicked: a broken callback")
				require.Contains(t, log.String(), "explode", "with its stack")
			})
		})
	}
}

func TestAPanicOfAPipelinesOnErrorDoesNotStopItsPublisher(t *testing.T) {
	logged(t, func(t *testing.T, w *world, log *logs) {
		sub := w.backlog(t, 3, time.Minute, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), Status: 422, Body: `{"summary":"no"}`, Count: 3})
		_, err := w.client.CreateStream(w.ctx, "target", sequin.StreamOptions{})
		require.NoError(t, err)
		pub, err := w.client.NewPublisher("target", sequin.PublisherConfig{})
		require.NoError(t, err)
		cfg := sequin.HandlerConfig{OnError: func(sequin.Delivery, error) { explode("a broken callback") }}
		run := w.start(t, func(ctx context.Context) error { return sub.Pipe(ctx, pub, cfg, copies) })
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.NoError(t, pub.Close(w.ctx))
		require.Contains(t, log.String(), "OnError panicked")
		require.Len(t, w.data(t, "target"), 3)
		w.requireSettled(t, "orders")
	})
}

func TestAnOnErrorThatEndsItsGoroutineStopsNothing(t *testing.T) {
	logged(t, func(t *testing.T, w *world, _ *logs) {
		w.deadStream(t)
		sub := w.backlog(t, 3, time.Minute, sequin.SubscriberConfig{})
		refuses := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"no"}`, Count: 5})
		cfg := sequin.HandlerConfig{BackoffMax: time.Second, DeadLetter: &sequin.DeadLetter{Stream: "dead"},
			OnError: func(sequin.Delivery, error) { runtime.Goexit() }}
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, cfg, func(context.Context, sequin.Delivery) error { return sequin.Permanent(errDown) })
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, 5, refuses.Hits())
		require.Len(t, w.deadLetters(t), 3)
		w.requireSettled(t, "orders")
	})
}

// withoutReturning runs a promise for each way in which a callback ends without returning. A panic must be in the log.
func withoutReturning(t *testing.T, callback string, promise func(t *testing.T, w *world, end func())) {
	t.Helper()
	for _, row := range []struct {
		name   string
		end    func()
		logged bool
	}{
		{"a panic", func() { explode("a broken callback") }, true},
		{"the end of its own goroutine", runtime.Goexit, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			logged(t, func(t *testing.T, w *world, log *logs) {
				promise(t, w, row.end)
				require.Equal(t, row.logged, strings.Contains(log.String(), callback+" panicked: a broken callback"))
			})
		})
	}
}

func TestAnOnAckErrorThatDoesNotReturnStopsNothing(t *testing.T) {
	withoutReturning(t, "OnAckError", func(t *testing.T, w *world, end func()) {
		var calls atomic.Int32
		sub := w.backlog(t, 3, time.Minute, sequin.SubscriberConfig{OnAckError: func(sequin.Delivery, error) {
			calls.Add(1)
			end()
		}})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 400, Body: `{"summary":"no"}`, Count: 2})
		for range 3 { // one after the other: two are refused, and the third succeeds
			require.NoError(t, (<-sub.Deliveries()).Ack())
			time.Sleep(time.Second)
		}
		require.NoError(t, sub.Close(w.ctx))
		require.EqualValues(t, 2, calls.Load())
		require.EqualValues(t, 1, sub.Stats().Acked)
	})
}

func TestAnOnFailureThatDoesNotReturnIsCalledForTheNextFailure(t *testing.T) {
	withoutReturning(t, "OnFailure", func(t *testing.T, w *world, end func()) {
		_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		var calls atomic.Int32
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{MaxBuffered: 1, OnFailure: func(sequin.MessageError) {
			calls.Add(1)
			end()
		}})
		require.NoError(t, err)
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"no"}`, Count: 3})
		for i := range 4 { // there is room for one message, once the failure of the one before has been reported
			require.NoError(t, pub.Send(w.ctx, "k."+strconv.Itoa(i), ""))
			time.Sleep(time.Second)
		}
		require.NoError(t, pub.Close(w.ctx))
		require.EqualValues(t, 3, calls.Load())
		require.EqualValues(t, 1, pub.Stats().Sent)
	})
}

func TestAPanicOfDeadLetterKeyDelaysTheMessage(t *testing.T) {
	logged(t, func(t *testing.T, w *world, log *logs) {
		w.deadStream(t)
		sub := w.backlog(t, 2, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		calls := 0
		dead := sequin.DeadLetter{Stream: "dead", Key: func(d sequin.Delivery) string {
			if calls++; d.Key == "k.0" && calls < 10 {
				explode(errDown)
			}
			return "dead." + d.Key
		}}
		run := w.handleFailing(t, sub, &b, dead, sequin.Permanent(errors.New("bad")))
		time.Sleep(10 * time.Second)
		require.Len(t, w.deadLetters(t)["k.1"], 1)
		require.EqualValues(t, 1, sub.Stats().Acked)
		reported := b.reported()
		var panicked *sequin.PanicError
		require.ErrorAs(t, reported[len(reported)-1], &panicked)
		require.ErrorIs(t, panicked, errDown)
		require.Contains(t, string(panicked.Stack), "explode")
		require.ErrorContains(t, panicked, "DeadLetter.Key panicked: the database is down")
		require.Contains(t, log.String(), "explode", "with its stack")
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Len(t, w.deadLetters(t)["k.0"], 1, "once Key returns a key")
		w.requireSettled(t, "orders")
	})
}

// typed is an error whose methods panic on a nil pointer, as those of many types do.
type typed struct{ cause error }

func (e *typed) Error() string { return e.cause.Error() }
func (e *typed) Unwrap() error { return e.cause }

// A nil pointer of an error type is a non-nil error.
func TestATypedNilErrorIsAFailure(t *testing.T) {
	for name, fail := range map[string]func() error{
		"returned": func() error { return (*typed)(nil) },
		"panicked": func() error { panic((*typed)(nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			logged(t, func(t *testing.T, w *world, log *logs) {
				w.deadStream(t)
				sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
				var b callLog
				cfg := sequin.HandlerConfig{BackoffMax: time.Second, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}, OnError: b.failed}
				run := w.start(t, func(ctx context.Context) error {
					return sub.Handle(ctx, cfg, func(context.Context, sequin.Delivery) error { return fail() })
				})
				time.Sleep(time.Minute)
				require.NoError(t, run.stop())
				require.Len(t, b.reported(), 2)
				require.Equal(t, 2, w.deadLetters(t)["k.0"][0].Attempts)
				require.Contains(t, w.deadLetters(t)["k.0"][0].Error, "<nil>")
				w.requireSettled(t, "orders")
			})
		})
	}
}
