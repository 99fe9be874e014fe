package sequin_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

func TestASubscribersDeliveriesAreReadInOneWay(t *testing.T) {
	nothing := func(context.Context, sequin.Delivery) error { return nil }
	handle := func(ctx context.Context, sub *sequin.Subscriber) error {
		return sub.Handle(ctx, sequin.HandlerConfig{}, nothing)
	}
	batch := func(ctx context.Context, sub *sequin.Subscriber) error {
		return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{}, func(context.Context, []sequin.Delivery) error { return nil })
	}
	for name, run := range map[string]func(context.Context, *sequin.Subscriber) error{"Handle": handle, "HandleBatch": batch} {
		t.Run(name, func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
				r := w.start(t, func(ctx context.Context) error { return run(ctx, sub) })
				time.Sleep(time.Second)
				require.ErrorIs(t, handle(w.ctx, sub), sequin.ErrBusy)
				require.ErrorIs(t, batch(w.ctx, sub), sequin.ErrBusy)
				_, open := <-sub.Deliveries()
				require.False(t, open)
				require.NoError(t, r.stop())
				require.ErrorIs(t, run(w.ctx, sub), sequin.ErrBusy)

				sub = w.subscribe(t, sequin.SubscriberConfig{})
				ranged := sub.Deliveries()
				require.ErrorIs(t, run(w.ctx, sub), sequin.ErrBusy)
				require.Equal(t, ranged, sub.Deliveries(), "the same at every call")
				require.NoError(t, sub.Close(w.ctx))
			})
		})
	}
}

// failFirst is a handler that fails for the n oldest messages of orders.
func (w *world) failFirst(b *callLog, n int) func(context.Context, sequin.Delivery) error {
	state, _ := w.Stream("orders")
	last := state.Messages[n-1].Seq
	return func(_ context.Context, d sequin.Delivery) error {
		if b.note(d); d.Seq <= last {
			return errDown
		}
		return nil
	}
}

func TestDelayedNacksTakeAtMostHalfOfMaxInFlight(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 100, time.Minute, sequin.SubscriberConfig{MaxInFlight: 10})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: 50 * time.Second}, w.failFirst(&b, 5))
		})
		time.Sleep(20 * time.Second)
		require.EqualValues(t, 95, sub.Stats().Acked)
		require.Equal(t, 100, b.count())
		require.NoError(t, run.stop())
	})
}

func TestNacksThatCannotBeDelayedDoNotCauseABusyLoop(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 20, time.Minute, sequin.SubscriberConfig{MaxInFlight: 10})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: 10 * time.Second}, w.failFirst(&b, 8))
		})
		for range 60 {
			time.Sleep(time.Second)
			synctest.Wait()
			require.LessOrEqual(t, sub.Stats().InFlight, 6, "half of MaxInFlight is delayed, and there is one probe")
		}
		// At most ten failures in a row at full speed, after each of the twelve that succeed; then one every 5 s at least.
		require.LessOrEqual(t, b.count(), 12+13*10+60/5)
		require.NoError(t, run.stop())
	})
}

// A program that handles few messages in the time of a lease has a small prefetch window.
func TestDelayedNacksDoNotFillTheWindow(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 200, 30*time.Second, sequin.SubscriberConfig{})
		state, _ := w.Stream("orders")
		first := state.Messages[0].Seq
		var passed atomic.Int64
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: 25 * time.Second}, func(_ context.Context, d sequin.Delivery) error {
				time.Sleep(time.Second)
				if n := d.Seq - first; n < 30 && n%2 == 0 {
					return errDown
				}
				passed.Add(1)
				return nil
			})
		})
		time.Sleep(5 * time.Minute)
		// 15 fail about every 25 s, which uses three fifths of the worker's time.
		require.Greater(t, passed.Load(), int64(100), "the worker is never idle")
		require.NoError(t, run.stop())
	})
}
