package sequin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestHandleAcksADeliveryWhenItsHandlerReturnsNil(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 300, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{Workers: 4, OnError: b.failed}, func(_ context.Context, d sequin.Delivery) error {
				b.note(d)
				return nil
			})
		})
		time.Sleep(30 * time.Second)
		require.NoError(t, run.stop())
		require.Len(t, b.times(), 300)
		require.Equal(t, 300, b.count())
		require.Empty(t, b.reported())
		require.EqualValues(t, 300, sub.Stats().Acked)
		w.requireSettled(t, "orders")
	})
}

func TestHandleNacksAFailedMessageAfterALongerDelayEachTime(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		cfg := sequin.HandlerConfig{BackoffMin: time.Second, BackoffMax: 8 * time.Second, OnError: b.failed}
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
				b.note(d)
				if b.count() < 6 {
					return errDown
				}
				return nil
			})
		})
		time.Sleep(2 * time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, 6, b.count())
		for i, most := range []time.Duration{1, 2, 4, 8, 8} {
			waited := b.calls[i+1].at - b.calls[i].at
			require.GreaterOrEqual(t, waited, most*time.Second/2, "pause %d", i)
			require.LessOrEqual(t, waited, most*time.Second+1100*time.Millisecond, "pause %d, and that of a poll", i)
		}
		require.Len(t, b.reported(), 5)
		require.ErrorIs(t, b.reported()[0], errDown)
		require.EqualValues(t, 5, sub.Stats().Nacked)
		w.requireSettled(t, "orders")
	})
}

func TestHandleCutsTheBackoffToTheLease(t *testing.T) {
	whereNacksCannotBeDelayed(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 4*time.Second, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: time.Hour, OnError: b.failed}, func(_ context.Context, d sequin.Delivery) error {
				b.note(d)
				return errDown
			})
		})
		time.Sleep(30 * time.Second)
		require.NoError(t, run.stop())
		stats := sub.Stats()
		require.GreaterOrEqual(t, b.count(), 6)
		require.EqualValues(t, b.count(), stats.Nacked, "each was nacked while its lease lasted")
		require.Zero(t, stats.RefusedLate)
	})
}

func TestHandleReportsAPanicWithItsStack(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{OnError: b.failed}, func(_ context.Context, d sequin.Delivery) error {
				if b.note(d); b.count() == 1 {
					explode(errDown)
				}
				return nil
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, 2, b.count())
		require.Len(t, b.reported(), 1)
		var panicked *sequin.PanicError
		require.ErrorAs(t, b.reported()[0], &panicked)
		require.Equal(t, errDown, panicked.Value)
		require.Contains(t, string(panicked.Stack), "explode")
		require.ErrorIs(t, panicked, errDown, "a panic with an error unwraps to it")
		require.ErrorContains(t, panicked, "handler panicked: the database is down")
		w.requireSettled(t, "orders")
	})
}

func explode(v any) { panic(v) }

func TestHandleSurvivesAHandlerThatEndsItsGoroutine(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		sub := w.backlog(t, 5, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{OnError: b.failed}, func(_ context.Context, d sequin.Delivery) error {
				if b.note(d); b.count() == 1 {
					runtime.Goexit() // as a test's FailNow does
				}
				return nil
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, 6, b.count())
		require.Len(t, b.reported(), 1)
		require.ErrorContains(t, b.reported()[0], "Goexit")
		w.requireSettled(t, "orders")
	})
}

func TestADeliveryThatItsHandlerSettlesStaysAsItIs(t *testing.T) {
	for _, tc := range []struct {
		what          string
		settle        func(sequin.Delivery) error
		result        error
		acked, nacked uint64
		reported      int
	}{
		{"acked, then an error", sequin.Delivery.Ack, errDown, 1, 0, 1},
		{"acked, then nil", sequin.Delivery.Ack, nil, 1, 0, 0},
		{"nacked, then nil", sequin.Delivery.Nack, nil, 1, 1, 0}, // and acked the second time
	} {
		t.Run(tc.what, func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
				var b callLog
				run := w.start(t, func(ctx context.Context) error {
					return sub.Handle(ctx, sequin.HandlerConfig{OnError: b.failed}, func(_ context.Context, d sequin.Delivery) error {
						if b.note(d); b.count() > 1 {
							return nil
						}
						return errors.Join(tc.settle(d), tc.result)
					})
				})
				time.Sleep(5 * time.Minute)
				require.NoError(t, run.stop())
				require.Equal(t, tc.acked, sub.Stats().Acked)
				require.Equal(t, tc.nacked, sub.Stats().Nacked)
				require.Len(t, b.reported(), tc.reported)
			})
		})
	}
}

func TestHandleReportsASuccessAfterTheDeadline(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 4*time.Second, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{MaxHandling: untilDeadline, OnError: b.failed}, func(_ context.Context, d sequin.Delivery) error {
				if b.note(d); b.count() == 1 {
					time.Sleep(time.Until(d.Deadline) + 1)
				}
				return nil
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, 2, b.count())
		require.Len(t, b.reported(), 1)
		require.ErrorIs(t, b.reported()[0], sequin.ErrLeaseExpired)
		w.requireSettled(t, "orders")
	})
}

type valueKey string

func TestAHandlersCtxHasTheValuesOfHandlesAndEndsAtTheDeadline(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		w.publish(t, "k", 1)
		outer := context.WithValue(context.WithValue(w.ctx, valueKey("both"), "Subscribe"), valueKey("outer"), "Subscribe")
		sub, err := w.client.Subscribe(outer, "orders", "all", sequin.SubscriberConfig{})
		require.NoError(t, err)
		var seen context.Context
		ctx, cancel := context.WithCancel(context.WithValue(w.ctx, valueKey("both"), "Handle"))
		err = sub.Handle(ctx, sequin.HandlerConfig{MaxHandling: untilDeadline}, func(ctx context.Context, d sequin.Delivery) error {
			seen = ctx
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, d.Deadline, deadline)
			require.Equal(t, "Handle", ctx.Value(valueKey("both")))
			require.Equal(t, "Subscribe", ctx.Value(valueKey("outer")))

			before := propagating()
			child, done := context.WithCancel(ctx)
			require.Equal(t, before, propagating(), "a context made from it starts no goroutine")
			cancel() // this does not end the handler's ctx at once
			require.NoError(t, child.Err())
			done()
			<-ctx.Done()
			require.True(t, time.Now().Equal(d.Deadline))
			return nil
		})
		requireLeft(t, err, 1, sequin.ErrLeaseExpired) // the handler used up the lease
		require.NotNil(t, seen)
	})
}

func TestHandleStopsWhenItsCtxEnds(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 100, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{Workers: 2}, func(_ context.Context, d sequin.Delivery) error {
				b.note(d)
				time.Sleep(3 * time.Second)
				return nil
			})
		})
		time.Sleep(4 * time.Second)
		began := time.Now()
		require.NoError(t, run.stop())
		require.Less(t, time.Since(began), 5*time.Second, "handlers that run may finish")
		require.Equal(t, 4, b.count())
		require.EqualValues(t, 4, sub.Stats().Acked)
		state, _ := w.Stream("orders")
		require.Empty(t, state.Consumers[0].Outstanding, "what was not handled was returned")
		require.NoError(t, sub.Close(w.ctx))
	})
}

func TestAHandlersCtxEndsWhenDrainTimeoutIsOver(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{DrainTimeout: 2 * time.Second})
		var ended atomic.Int64
		began := make(chan struct{})
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{}, func(ctx context.Context, _ sequin.Delivery) error {
				close(began)
				<-ctx.Done()
				ended.Add(1)
				return ctx.Err()
			})
		})
		<-began
		stopped := time.Now()
		require.NoError(t, run.stop())
		require.Equal(t, 2*time.Second, time.Since(stopped))
		require.EqualValues(t, 1, ended.Load())
	})
}

func TestHandleReturnsAlthoughHandlersIgnoreTheirCtx(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 3, time.Minute, sequin.SubscriberConfig{DrainTimeout: time.Second})
		release := make(chan struct{})
		var began, left sync.WaitGroup
		began.Add(2)
		left.Add(2)
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{Workers: 3}, func(_ context.Context, d sequin.Delivery) error {
				if d.Key == "k.0" {
					return nil
				}
				defer left.Done()
				began.Done()
				<-release
				return nil
			})
		})
		began.Wait()
		stopped := time.Now()
		err := run.stop()
		require.ErrorIs(t, err, sequin.ErrHandlersRunning)
		require.ErrorContains(t, err, "2 of 3")
		require.Equal(t, 2*time.Second, time.Since(stopped), "DrainTimeout, and one second for the handlers")
		close(release)
		left.Wait()
		synctest.Wait()
	})
}

func TestHandleReturnsTheErrorOfErr(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{}, func(context.Context, sequin.Delivery) error { return nil })
		})
		time.Sleep(time.Second)
		require.NoError(t, w.client.DeleteConsumer(w.ctx, "orders", "all"))
		require.ErrorIs(t, run.wait(), sequin.ErrNotFound)
	})
}

func TestHandleRefusesAnInvalidConfig(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{MaxInFlight: 50})
		nothing := func(context.Context, sequin.Delivery) error { return nil }
		for what, cfg := range map[string]sequin.HandlerConfig{
			"Workers -1":          {Workers: -1},
			"Workers 51":          {Workers: 51},
			"BackoffMin":          {BackoffMin: -1},
			"below its minimum":   {BackoffMin: 2, BackoffMax: 1},
			"DeadLetter.Stream":   {DeadLetter: &sequin.DeadLetter{}},
			"same stream":         {DeadLetter: &sequin.DeadLetter{Stream: "orders"}},
			"stream ..":           {DeadLetter: &sequin.DeadLetter{Stream: ".."}},
			"MaxAttempts -1":      {DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: -1}},
			"BackoffMax negative": {BackoffMax: -1},
		} {
			require.ErrorIs(t, sub.Handle(w.ctx, cfg, nothing), sequin.ErrInvalidConfig, what)
		}
		require.ErrorIs(t, sub.Handle(w.ctx, sequin.HandlerConfig{}, nil), sequin.ErrInvalidArgument)
		require.Zero(t, w.Count(sequintest.Ack))
		d, open := <-sub.Deliveries()
		require.True(t, open, "the deliveries can still be read")
		require.NoError(t, d.Ack())
		require.NoError(t, sub.Close(w.ctx))
	})
}

type order struct {
	Qty int `json:"qty"`
}

func TestDecodeJSONReturnsTheValueOrAnErrorThatNamesTheKey(t *testing.T) {
	for _, tc := range []struct {
		data string
		want order
		bad  bool
	}{
		{data: `{"qty":4}`, want: order{4}},
		{data: `{"qty":4,"of a newer producer":1}`, want: order{4}},
		{data: `{}`},
		{data: ``, bad: true},
		{data: `{"qty":"four"}`, bad: true},
		{data: `{"qty":4}{`, bad: true},
	} {
		got, err := sequin.DecodeJSON[order](sequin.Delivery{Key: "orders.7", Data: tc.data})
		if tc.bad {
			require.ErrorContains(t, err, `"orders.7"`, tc.data)
			require.ErrorContains(t, err, "sequin_test.order", tc.data)
			continue
		}
		require.NoError(t, err, tc.data)
		require.Equal(t, tc.want, got, tc.data)
	}
}

func TestAPermanentErrorWrapsTheErrorThatItMarks(t *testing.T) {
	var syntax *json.SyntaxError
	_, err := sequin.DecodeJSON[order](sequin.Delivery{Data: `{`})
	require.ErrorAs(t, err, &syntax)

	marked := sequin.Permanent(errDown)
	require.ErrorIs(t, marked, errDown)
	require.EqualError(t, marked, errDown.Error())
	require.ErrorIs(t, fmt.Errorf("order 7: %w", marked), errDown)
	require.NoError(t, sequin.Permanent(nil))
	require.False(t, errors.Is(errDown, marked))
}

func TestIsPermanentFindsTheMarkInAnyWrapping(t *testing.T) {
	_, undecodable := sequin.DecodeJSON[order](sequin.Delivery{Data: `{`})
	for _, err := range []error{
		sequin.Permanent(errDown), undecodable, fmt.Errorf("order 7: %w", sequin.Permanent(errDown)),
		errors.Join(errDown, sequin.Permanent(errDown)), sequin.Permanent((*typed)(nil)),
	} {
		require.True(t, sequin.IsPermanent(err))
	}
	for _, err := range []error{nil, errDown, sequin.Permanent(nil), (*typed)(nil)} {
		require.False(t, sequin.IsPermanent(err))
	}
}
