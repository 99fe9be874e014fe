package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// hookLog records the calls of all functions of Hooks.
type hookLog struct {
	mu       sync.Mutex // guards all below
	started  []sequin.RequestInfo
	done     []sequin.RequestInfo
	results  []sequin.RequestResult
	received []sequin.SettleInfo
	settled  []sequin.SettleInfo
	handlers []string
}

func (l *hookLog) hooks() *sequin.Hooks {
	note := func(f func()) {
		l.mu.Lock()
		defer l.mu.Unlock()
		f()
	}
	return &sequin.Hooks{
		RequestStart: func(ctx context.Context, r sequin.RequestInfo) context.Context {
			note(func() { l.started = append(l.started, r) })
			return context.WithValue(ctx, valueKey("attempt"), r.Attempt)
		},
		RequestDone: func(ctx context.Context, r sequin.RequestInfo, result sequin.RequestResult) {
			note(func() {
				if ctx.Value(valueKey("attempt")) != r.Attempt {
					panic("RequestDone has not the context of RequestStart")
				}
				l.done, l.results = append(l.done, r), append(l.results, result)
			})
		},
		Delivered: func(s sequin.SettleInfo) { note(func() { l.received = append(l.received, s) }) },
		Settled:   func(s sequin.SettleInfo) { note(func() { l.settled = append(l.settled, s) }) },
		HandlerStart: func(ctx context.Context, d sequin.Delivery) context.Context {
			note(func() { l.handlers = append(l.handlers, "start "+d.Key) })
			return context.WithValue(ctx, valueKey("handler"), d.Key)
		},
		HandlerDone: func(ctx context.Context, d sequin.Delivery, r sequin.HandlerResult) {
			note(func() {
				l.handlers = append(l.handlers, fmt.Sprintf("done %s in %v, %v, %v", d.Key, r.Duration, r.Err, ctx.Value(valueKey("handler"))))
			})
		},
	}
}

// take returns what was recorded, and forgets it.
func (l *hookLog) take() *hookLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := &hookLog{started: l.started, done: l.done, results: l.results, received: l.received, settled: l.settled, handlers: l.handlers}
	l.started, l.done, l.results, l.received, l.settled, l.handlers = nil, nil, nil, nil, nil, nil
	return got
}

// hooked returns a world whose client reports to the hookLog.
func hooked(t *testing.T, cfg sequin.Config) (*world, *hookLog) {
	l := new(hookLog)
	if cfg.Hooks == nil {
		cfg.Hooks = l.hooks()
	}
	return newWorld(t, sequintest.Config{KeepRequests: -1}, cfg), l
}

func TestHooksSeeEveryOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := hooked(t, sequin.Config{})
		c, ctx, id := w.client, w.ctx, "7a1d5f0e-0000-4000-8000-000000000000"
		for _, row := range []struct {
			call func() error
			want sequin.RequestInfo
		}{
			{func() error { return second(c.CreateStream(ctx, "s/1", sequin.StreamOptions{})) }, sequin.RequestInfo{Op: "create stream"}},
			{func() error { return second(c.GetStream(ctx, "s/1")) }, sequin.RequestInfo{Op: "get stream", Stream: "s/1"}},
			{func() error { return second(c.ListStreams(ctx)) }, sequin.RequestInfo{Op: "list streams"}},
			{func() error { return second(c.CreateConsumer(ctx, "s/1", "c", ">", sequin.ConsumerOptions{})) }, sequin.RequestInfo{Op: "create consumer", Stream: "s/1"}},
			{func() error { return second(c.GetConsumer(ctx, "s/1", "c")) }, sequin.RequestInfo{Op: "get consumer", Stream: "s/1", Consumer: "c"}},
			{func() error { return second(c.ListConsumers(ctx, "s/1")) }, sequin.RequestInfo{Op: "list consumers", Stream: "s/1"}},
			{func() error { return second(c.SendMessage(ctx, "s/1", "receive", "d")) }, sequin.RequestInfo{Op: "send", Stream: "s/1", Messages: 1}},
			{func() error { return second(c.ListMessages(ctx, "s/1", sequin.ListOptions{})) }, sequin.RequestInfo{Op: "list messages", Stream: "s/1"}},
			{func() error { return second(c.GetMessage(ctx, "s/1", "receive")) }, sequin.RequestInfo{Op: "get message", Stream: "s/1"}},
			{func() error { return second(c.MessageInfo(ctx, "s/1", "receive")) }, sequin.RequestInfo{Op: "get message", Stream: "s/1"}},
			{func() error { return second(c.ReceiveMessages(ctx, "s/1", "c", sequin.ReceiveOptions{BatchSize: 7})) },
				sequin.RequestInfo{Op: "receive", Stream: "s/1", Consumer: "c", Messages: 7}},
			{func() error { return c.AckMessages(ctx, "s/1", "c", []string{id, id}) }, sequin.RequestInfo{Op: "ack", Stream: "s/1", Consumer: "c", Messages: 2}},
			{func() error { return c.NackMessage(ctx, "s/1", "c", id) }, sequin.RequestInfo{Op: "nack", Stream: "s/1", Consumer: "c", Messages: 1}},
			{func() error { return second(c.ExtendMessages(ctx, "s/1", "c", time.Minute, []string{id})) },
				sequin.RequestInfo{Op: "extend", Stream: "s/1", Consumer: "c", Messages: 1}},
			{func() error { return second(c.PeekMessages(ctx, "s/1", "c", sequin.ListOptions{})) }, sequin.RequestInfo{Op: "peek", Stream: "s/1", Consumer: "c"}},
			{func() error { return second(c.PurgeStream(ctx, "s/1", sequin.PurgeOptions{All: true})) }, sequin.RequestInfo{Op: "purge stream", Stream: "s/1"}},
			{func() error { return c.DeleteConsumer(ctx, "s/1", "c") }, sequin.RequestInfo{Op: "delete consumer", Stream: "s/1", Consumer: "c"}},
			{func() error { return c.DeleteStream(ctx, "s/1") }, sequin.RequestInfo{Op: "delete stream", Stream: "s/1"}},
		} {
			_ = row.call() // some ack ids do not exist
			got := log.take()
			require.Equal(t, got.started, got.done, row.want.Op)
			require.Len(t, got.started, 1, row.want.Op)
			one := got.started[0]
			require.NotEmpty(t, one.RequestID)
			require.Equal(t, 1, one.Attempt)
			require.Equal(t, one.Bytes > 0, row.want.Messages > 0 || row.want.Op == "create stream" || row.want.Op == "create consumer" || row.want.Op == "purge stream", row.want.Op)
			one.RequestID, one.Attempt, one.Bytes = "", 0, 0
			require.Equal(t, row.want, one)
			require.Positive(t, got.results[0].Bytes)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestHooksSeeEachAttemptAndItsResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := hooked(t, sequin.Config{})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		log.take()
		w.Fault(sequintest.Fault{Op: sequintest.Send, Count: 1, Status: 503, Header: http.Header{"Retry-After": {"2"}}, Body: `{"summary":"busy"}`})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Count: 1, Delay: time.Second, CutBefore: true})
		_, err := w.client.SendMessage(w.ctx, "orders", "k", "d")
		require.NoError(t, err)
		got := log.take()
		require.Len(t, got.results, 3)
		require.Equal(t, []int{1, 2, 3}, []int{got.started[0].Attempt, got.started[1].Attempt, got.started[2].Attempt})
		require.Equal(t, got.started[0].RequestID, got.started[2].RequestID)

		r := got.results[0]
		require.Equal(t, 503, r.Status)
		require.Equal(t, 2*time.Second, r.RetryAfter)
		require.Equal(t, len(`{"summary":"busy"}`), r.Bytes)
		var api *sequin.APIError
		require.ErrorAs(t, r.Err, &api)
		r = got.results[1]
		require.Zero(t, r.Status)
		require.Error(t, r.Err)
		require.Equal(t, time.Second, r.Duration)
		require.Zero(t, r.Bytes)
		require.Equal(t, sequin.RequestResult{Status: 200, Bytes: got.results[2].Bytes, Duration: got.results[2].Duration}, got.results[2])
	})
}

// The RoundTripper of the program sees the context of RequestStart, for instance the span of a trace.
func TestAnAttemptHasTheContextOfRequestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []any
		w := newObstructedWorld(t, sequin.Config{Hooks: new(hookLog).hooks()}, func(r *http.Request, _ string) (*http.Response, error) {
			seen = append(seen, r.Context().Value(valueKey("attempt")))
			return nil, nil
		})
		seen = nil
		require.NoError(t, second(w.client.SendMessage(w.ctx, "orders", "k", "d")))
		require.Equal(t, []any{1}, seen)
	})
}

func TestHooksSeeWhatASubscriberReceivesAndSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := hooked(t, sequin.Config{})
		sub := w.backlog(t, 3, 30*time.Second, sequin.SubscriberConfig{})
		require.NoError(t, sub.Handle(w.ctx, sequin.HandlerConfig{BackoffMin: time.Hour, BackoffMax: time.Hour}, func(ctx context.Context, d sequin.Delivery) error {
			require.Equal(t, d.Key, ctx.Value(valueKey("handler")))
			time.Sleep(time.Second)
			if d.Key == "k.1" {
				return errors.New("no")
			}
			if d.Key == "k.2" {
				go func() { _ = sub.Close(w.ctx) }()
			}
			return nil
		}))
		got := log.take()
		require.Equal(t, []string{"start k.0", "done k.0 in 1s, <nil>, k.0", "start k.1", "done k.1 in 1s, no, k.1", "start k.2", "done k.2 in 1s, <nil>, k.2"}, got.handlers)
		require.Equal(t, sequin.SettleInfo{Stream: "orders", Consumer: "all", Messages: 3}, got.received[0])
		acked, nacked := 0, 0
		for _, s := range got.settled {
			require.Equal(t, "orders", s.Stream)
			require.Equal(t, "all", s.Consumer)
			require.NoError(t, s.Err)
			require.GreaterOrEqual(t, s.Oldest, time.Second)
			require.GreaterOrEqual(t, s.Total, s.Oldest)
			if s.Kind == sequin.Ack {
				acked += s.Messages
			} else {
				nacked += s.Messages
			}
		}
		require.Equal(t, 2, acked)
		require.Equal(t, 1, nacked)
		for _, r := range got.started {
			if r.Op == "ack" {
				require.Equal(t, "all", r.Consumer, "the name and not the id")
			}
		}
	})
}

func TestTheAgesOfAllSettlesAreSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := hooked(t, sequin.Config{})
		sub := w.backlog(t, 20, 30*time.Second, sequin.SubscriberConfig{})
		require.NoError(t, sub.HandleBatch(w.ctx, sequin.BatchHandlerConfig{Size: 20}, func(context.Context, []sequin.Delivery) error {
			time.Sleep(5 * time.Second)
			go func() { _ = sub.Close(w.ctx) }()
			return nil
		}))
		got, total := log.take().settled, time.Duration(0)
		for _, s := range got {
			total += s.Total
			require.Less(t, s.Oldest, 6*time.Second)
		}
		require.Less(t, len(got), 20, "several settles have one result")
		require.InDelta(t, 100, total.Seconds(), 1)
	})
}

func TestHooksSeeSettlesThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := hooked(t, sequin.Config{})
		sub := w.backlog(t, 1, 30*time.Second, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 404, Body: `{"summary":"Not found: no consumer found matching the provided ID or name"}`})
		require.NoError(t, (<-sub.Deliveries()).Ack())
		_ = sub.Close(w.ctx)
		got := log.take().settled
		require.Len(t, got, 1)
		require.ErrorIs(t, got[0].Err, sequin.ErrNotFound)
		require.Equal(t, sequin.Ack, got[0].Kind)
	})
}

func TestABatchHandlerHasTheContextOfAllItsDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := hooked(t, sequin.Config{})
		sub := w.backlog(t, 2, 30*time.Second, sequin.SubscriberConfig{})
		require.NoError(t, sub.HandleBatch(w.ctx, sequin.BatchHandlerConfig{Size: 2, Wait: time.Second}, func(ctx context.Context, ds []sequin.Delivery) error {
			require.Equal(t, "k.1", ctx.Value(valueKey("handler")))
			go func() { _ = sub.Close(w.ctx) }()
			panic("broken")
		}))
		require.Equal(t, []string{"start k.0", "start k.1", "done k.0 in 0s, sequin: handler panicked: broken, k.1", "done k.1 in 0s, sequin: handler panicked: broken, k.1"}, log.take().handlers)
	})
}

// A function that panics must not end a lane, a loop or a worker, and is not called again.
func TestAPanicOfAHookIsRecoveredAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls [6]int
		count := func(i int) { calls[i]++; panic(fmt.Sprint("hook ", i)) }
		var log logs
		w, _ := hooked(t, sequin.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Hooks: &sequin.Hooks{
			RequestStart: func(context.Context, sequin.RequestInfo) context.Context { count(0); return nil },
			RequestDone:  func(context.Context, sequin.RequestInfo, sequin.RequestResult) { count(1) },
			Delivered:    func(sequin.SettleInfo) { count(2) },
			Settled:      func(sequin.SettleInfo) { count(3) },
			HandlerStart: func(context.Context, sequin.Delivery) context.Context { count(4); return nil },
			HandlerDone:  func(context.Context, sequin.Delivery, sequin.HandlerResult) { count(5) },
		}})
		sub := w.backlog(t, 3, 30*time.Second, sequin.SubscriberConfig{})
		handled := 0
		require.NoError(t, sub.Handle(w.ctx, sequin.HandlerConfig{}, func(context.Context, sequin.Delivery) error {
			if handled++; handled == 3 {
				go func() { _ = sub.Close(w.ctx) }()
			}
			return nil
		}))
		w.requireSettled(t, "orders")
		synctest.Wait()
		require.Equal(t, [6]int{1, 1, 1, 1, 1, 1}, calls)
		for i := range calls {
			require.Regexp(t, fmt.Sprintf(`level=ERROR msg="sequin: recovered a panic, and does not call the function again" error=".*hook %d`, i), log.String())
		}
	})
}

func TestAHookThatReturnsNoContextChangesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := hooked(t, sequin.Config{Hooks: &sequin.Hooks{
			RequestStart: func(context.Context, sequin.RequestInfo) context.Context { return nil },
			HandlerStart: func(context.Context, sequin.Delivery) context.Context { return nil },
		}})
		sub := w.backlog(t, 1, 30*time.Second, sequin.SubscriberConfig{})
		require.NoError(t, sub.Handle(w.ctx, sequin.HandlerConfig{}, func(ctx context.Context, _ sequin.Delivery) error {
			require.NotNil(t, ctx)
			go func() { _ = sub.Close(w.ctx) }()
			return nil
		}))
	})
}
