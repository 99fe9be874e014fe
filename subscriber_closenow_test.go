package sequin_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// closed calls CloseNow, which must give back or settle all within the time that a stop lets receives run.
func (w *world) closedNow(t *testing.T, sub *sequin.Subscriber) {
	t.Helper()
	began := time.Now()
	require.NoError(t, sub.CloseNow(w.ctx))
	require.LessOrEqual(t, time.Since(began), 2*time.Second+time.Millisecond, "the lease is an hour")
	synctest.Wait()
	require.Empty(t, w.consumer(t).Outstanding)
}

func TestCloseNowGivesBackWhatIsOut(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.publish(t, "k", 100)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		var held []sequin.Delivery
		for range 20 {
			held = append(held, next(t, sub, time.Second))
		}
		for _, d := range held[:5] {
			require.NoError(t, d.Ack())
		}
		require.NoError(t, held[5].Nack())
		w.closedNow(t, sub)
		require.Equal(t, 95, w.consumer(t).Available, "five were acked before")
		for _, d := range held {
			require.ErrorIs(t, d.Ack(), sequin.ErrSettled)
		}
		require.ErrorIs(t, held[10].Context().Err(), context.Canceled)
		require.NoError(t, sub.Close(w.ctx))
		require.NoError(t, sub.Err())
		require.Equal(t, uint64(5), sub.Stats().Acked)
		require.Equal(t, uint64(15), sub.Stats().Nacked)
	})
}

// What a program had is not counted as an attempt: it may not have begun.
func TestWhatCloseNowGivesBackIsNotCounted(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.send(t, "k.1", "x")
		for range 3 {
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			require.Equal(t, 1, next(t, sub, time.Second).Attempt)
			w.closedNow(t, sub)
		}
	})
}

func TestCloseNowGivesBackWhatWasTakenOrExtended(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Minute})
		w.publish(t, "k", 50)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		synctest.Wait()
		taken, err := sub.Take(w.ctx, 30)
		require.NoError(t, err)
		require.NotEmpty(t, taken)
		require.NoError(t, taken[0].Extend(w.ctx, time.Hour))
		require.NoError(t, taken[1].Extend(w.ctx, 2*time.Hour))
		w.closedNow(t, sub)
		require.Equal(t, 50, w.consumer(t).Available)
	})
}

func TestCloseNowEndsTheWaitOfAClose(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.publish(t, "k", 10)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		next(t, sub, time.Second)
		closed := make(chan error)
		go func() { closed <- sub.Close(w.ctx) }()
		time.Sleep(time.Minute)
		w.closedNow(t, sub)
		require.NoError(t, <-closed)
		require.Equal(t, 10, w.consumer(t).Available)
	})
}

// A handler settles what it has done, and only what it has not settled is given back.
func TestCloseNowLetsHandlersReturn(t *testing.T) {
	for name, row := range map[string]struct {
		handle    func(ctx context.Context, d sequin.Delivery) error
		available int
		within    time.Duration
	}{
		"one that ends its work":    {func(ctx context.Context, _ sequin.Delivery) error { <-ctx.Done(); return nil }, 9, time.Millisecond},
		"one that tells of the end": {func(ctx context.Context, _ sequin.Delivery) error { <-ctx.Done(); return ctx.Err() }, 10, time.Millisecond},
		"one that hangs":            {func(context.Context, sequin.Delivery) error { time.Sleep(time.Minute); return nil }, 10, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
				w.publish(t, "k", 10)
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				run := w.start(t, func(ctx context.Context) error { return sub.Handle(ctx, sequin.HandlerConfig{}, row.handle) })
				time.Sleep(time.Second)
				began := time.Now()
				w.closedNow(t, sub)
				require.LessOrEqual(t, time.Since(began), row.within+time.Millisecond)
				require.Equal(t, row.available, w.consumer(t).Available)
				if err := run.wait(); name == "one that hangs" {
					require.ErrorIs(t, err, sequin.ErrHandlersRunning)
				} else {
					require.NoError(t, err)
				}
				time.Sleep(time.Hour)
			})
		})
	}
}

// Nacks are not confirmed: the ctx of CloseNow bounds the wait for them, and one margin more.
func TestCloseNowReportsWhatItCouldNotGiveBack(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.publish(t, "k", 10)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		for range 10 {
			next(t, sub, time.Second)
		}
		defer w.Fault(sequintest.Fault{Op: sequintest.Nack, Status: 503, Body: ownRefusal}).Remove()
		ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
		defer cancel()
		began := time.Now()
		err := sub.CloseNow(ctx)
		var left *sequin.DrainError
		require.ErrorAs(t, err, &left)
		require.Equal(t, 10, left.Unsettled)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 22*time.Second, time.Since(began))
	})
}

func TestFlushWaitsForQueuedSettles(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Minute})
		w.publish(t, "k", 10)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		require.NoError(t, sub.Flush(w.ctx), "nothing is queued")
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Delay: 300 * time.Millisecond})
		w.Fault(sequintest.Fault{Op: sequintest.Nack, Delay: 200 * time.Millisecond})
		for i := range 6 {
			if d := next(t, sub, time.Second); i < 3 {
				require.NoError(t, d.Ack())
			} else {
				require.NoError(t, d.Nack())
			}
		}
		ended, cancel := context.WithTimeout(w.ctx, time.Millisecond)
		defer cancel()
		require.ErrorIs(t, sub.Flush(ended), context.DeadlineExceeded)
		require.NoError(t, sub.Flush(w.ctx))
		require.Equal(t, uint64(3), sub.Stats().Acked)
		require.Equal(t, uint64(3), sub.Stats().Nacked)
		require.NoError(t, sub.CloseNow(w.ctx))
		require.NoError(t, sub.Flush(w.ctx))
	})
}

// Flush reports a failure once. AckSync reports its own.
func TestFlushReportsWhatFailedSinceTheLast(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Minute})
		w.publish(t, "k", 10)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 422, Body: ownRefusal, Count: 1})
		require.Error(t, next(t, sub, time.Second).AckSync(w.ctx))
		require.NoError(t, sub.Flush(w.ctx))

		refused := w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 422, Body: ownRefusal})
		require.NoError(t, next(t, sub, time.Second).Ack())
		require.NoError(t, next(t, sub, time.Second).Ack())
		time.Sleep(time.Second)
		refused.Remove()
		require.NoError(t, next(t, sub, time.Second).Ack())
		err := sub.Flush(w.ctx)
		require.ErrorIs(t, err, sequin.ErrValidation)
		require.ErrorContains(t, err, "2 acks and nacks failed")
		require.NoError(t, sub.Flush(w.ctx))
		require.NoError(t, sub.CloseNow(w.ctx))
	})
}

func TestFlushAfterAStopThatLeftSettlesIsClosed(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.send(t, "k.1", "x")
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503, Body: ownRefusal})
		require.NoError(t, next(t, sub, time.Second).Ack())
		flushed := make(chan error)
		go func() { flushed <- sub.Flush(w.ctx) }()
		ended, cancel := context.WithCancel(w.ctx)
		cancel()
		require.Error(t, sub.Close(ended))
		require.True(t, errors.Is(<-flushed, sequin.ErrClosed))
	})
}

// What HandleBatch collects, no handler has begun.
func TestCloseNowGivesBackWhatABatchCollects(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.publish(t, "k", 10)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.BatchHandlerConfig{Size: 100, Wait: time.Hour}
			return sub.HandleBatch(ctx, cfg, func(context.Context, []sequin.Delivery) error { return errors.New("handled") })
		})
		time.Sleep(2 * time.Second)
		began := time.Now()
		w.closedNow(t, sub)
		require.LessOrEqual(t, time.Since(began), time.Millisecond)
		require.Equal(t, 10, w.consumer(t).Available)
		require.NoError(t, run.wait())
	})
}

// A handler that finds out that its process cannot go on calls CloseNow, on another goroutine because that waits for handlers.
func TestAHandlerMayStartCloseNow(t *testing.T) {
	withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
		sub := w.backlog(t, 10, time.Hour, sequin.SubscriberConfig{})
		var began time.Time
		closed := make(chan error, 1)
		run := w.start(t, func(ctx context.Context) error {
			return handle(ctx, sub, sequin.HandlerConfig{}, func(ctx context.Context, _ sequin.Delivery) error {
				began = time.Now()
				go func() { closed <- sub.CloseNow(w.ctx) }()
				<-ctx.Done()
				return ctx.Err()
			})
		})
		require.NoError(t, run.wait())
		require.NoError(t, <-closed)
		require.LessOrEqual(t, time.Since(began), time.Millisecond)
		require.Equal(t, 10, w.consumer(t).Available)
		require.Empty(t, w.consumer(t).Outstanding)
	})
}
