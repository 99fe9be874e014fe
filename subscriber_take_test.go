package sequin_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

func TestTakeReturnsWhatIsThereInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "a", 30)
		sub := w.subscribe(t, sequin.SubscriberConfig{Pollers: 1})
		var seqs []int64
		for _, limit := range []int{1, 5, 100} {
			synctest.Wait()
			ds, err := sub.Take(t.Context(), limit)
			require.NoError(t, err)
			require.Len(t, ds, min(limit, 24))
			for _, d := range ds {
				seqs = append(seqs, d.Seq)
				require.NoError(t, d.Ack())
			}
		}
		require.IsIncreasing(t, seqs)
		require.NoError(t, sub.Close(t.Context()))
		w.requireDone(t)
	})
}

func TestTakeWaitsForADelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		begin := time.Now()
		time.AfterFunc(time.Minute, func() { w.send(t, "k", "late") })
		ds, err := sub.Take(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, ds, 1)
		require.Equal(t, time.Minute, time.Since(begin))
		require.NoError(t, ds[0].Ack())

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = sub.Take(ctx, 10)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		w.send(t, "k", "there")
		synctest.Wait()
		_, err = sub.Take(ctx, 10)
		require.ErrorIs(t, err, context.DeadlineExceeded, "ctx had ended")
		require.NoError(t, sub.Close(t.Context()))
	})
}

func TestTakeSaysWhyNothingComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		_, err := sub.Take(t.Context(), 0)
		require.ErrorIs(t, err, sequin.ErrInvalidArgument)
		waited := make(chan error)
		go func() {
			_, err := sub.Take(t.Context(), 1)
			waited <- err
		}()
		synctest.Wait()
		require.NoError(t, sub.Close(t.Context()))
		require.ErrorIs(t, <-waited, sequin.ErrClosed)

		handled := w.subscribe(t, sequin.SubscriberConfig{})
		w.start(t, func(ctx context.Context) error {
			return handled.Handle(ctx, sequin.HandlerConfig{}, func(context.Context, sequin.Delivery) error { return nil })
		})
		synctest.Wait()
		_, err = handled.Take(t.Context(), 1)
		require.ErrorIs(t, err, sequin.ErrBusy)
		require.NoError(t, handled.Close(t.Context()))

		deleted := w.subscribe(t, sequin.SubscriberConfig{})
		require.NoError(t, w.client.DeleteConsumer(w.ctx, "orders", "all"))
		_, err = deleted.Take(t.Context(), 1)
		require.ErrorIs(t, err, sequin.ErrNotFound)
	})
}

// TestTakeGetsAllThatMaxInFlightAllows checks that a program that takes many deliveries before it settles any gets all that
// MaxInFlight allows.
func TestTakeGetsAllThatMaxInFlightAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "a", 3_000)
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 500})
		done := 0
		for done < 3_000 {
			var held []sequin.Delivery
			for want := min(500, 3_000-done); len(held) < want; {
				ds, err := sub.Take(t.Context(), want-len(held))
				require.NoError(t, err)
				held = append(held, ds...)
			}
			for _, d := range held {
				require.NoError(t, d.Ack())
			}
			done += len(held)
		}
		require.NoError(t, sub.Close(t.Context()))
		w.requireDone(t)
	})
}

func TestAllYieldsDeliveriesUntilTheSubscriberStops(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", spacious)
		w.publish(t, "a", 50)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		n := 0
		for d, err := range sub.All(w.ctx) {
			require.NoError(t, err)
			require.NoError(t, d.Ack())
			if n++; n == 10 {
				break
			}
		}
		require.NoError(t, sub.Err(), "the end of a loop is no stop")
		for d, err := range sub.All(w.ctx) {
			require.NoError(t, err)
			require.NoError(t, d.Ack())
			if n++; n == 50 {
				go sub.Close(w.ctx)
			}
		}
		require.Equal(t, 50, n)
		require.NoError(t, sub.Close(w.ctx))
		w.requireDone(t)
	})
}

func TestAllYieldsLastWhyNothingComes(t *testing.T) {
	last := func(sub *sequin.Subscriber, ctx context.Context) (errs []error) {
		for d, err := range sub.All(ctx) {
			if err != nil {
				errs = append(errs, err)
			} else {
				_ = d.Ack()
			}
		}
		return errs
	}
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "a", 10)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		errs := last(sub, ctx)
		require.Len(t, errs, 1)
		require.ErrorIs(t, errs[0], context.DeadlineExceeded)
		require.Len(t, last(sub, endedCtx()), 1)
		require.NoError(t, sub.Close(w.ctx))
		require.Empty(t, last(sub, w.ctx))

		handled := w.subscribe(t, sequin.SubscriberConfig{})
		run := w.start(t, func(ctx context.Context) error {
			return handled.Handle(ctx, sequin.HandlerConfig{}, func(context.Context, sequin.Delivery) error { return nil })
		})
		synctest.Wait()
		require.Equal(t, []error{sequin.ErrBusy}, last(handled, w.ctx))
		require.NoError(t, run.stop())

		deleted := w.subscribe(t, sequin.SubscriberConfig{})
		require.NoError(t, w.client.DeleteConsumer(w.ctx, "orders", "all"))
		errs = last(deleted, w.ctx)
		require.Len(t, errs, 1)
		require.ErrorIs(t, errs[0], sequin.ErrNotFound)
	})
}
