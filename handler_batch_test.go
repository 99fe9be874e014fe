package sequin_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// batches records the calls of a batch handler.
type batches struct {
	callLog
	began time.Time
	mu    sync.Mutex
	sizes []int
	at    []time.Duration
}

func (b *batches) note(batch []sequin.Delivery) {
	for _, d := range batch {
		b.callLog.note(d)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sizes = append(b.sizes, len(batch))
	b.at = append(b.at, time.Since(b.began))
}

// handled returns the sizes of the batches so far.
func (b *batches) handled() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sizes)
}

// batchesFor handles batches for a time. Each takes work.
func (w *world) batchesFor(t *testing.T, long time.Duration, sub *sequin.Subscriber, cfg sequin.BatchHandlerConfig, work time.Duration) *batches {
	t.Helper()
	b := &batches{began: time.Now()}
	run := w.start(t, func(ctx context.Context) error {
		return sub.HandleBatch(ctx, cfg, func(_ context.Context, batch []sequin.Delivery) error {
			b.note(batch)
			time.Sleep(work)
			return nil
		})
	})
	time.Sleep(long)
	require.NoError(t, run.stop())
	return b
}

func TestABatchHoldsWhatHasArrivedUpToSize(t *testing.T) {
	for _, tc := range []struct {
		what       string
		n          int
		room, size int
		wait       time.Duration
		sizes      []int
		longest    time.Duration // until the last batch
	}{
		{"full batches do not wait", 100, 1000, 50, time.Hour, []int{50, 50}, time.Second},
		{"the rest waits at most Wait", 60, 1000, 50, 5 * time.Second, []int{50, 10}, 6 * time.Second},
		{"a single one waits Wait", 1, 1000, 50, 5 * time.Second, []int{1}, 6 * time.Second},
		{"a batch that nothing can be added to does not wait", 30, 10, 10, time.Hour, []int{10, 10, 10}, time.Second},
	} {
		t.Run(tc.what, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				sub := w.backlog(t, tc.n, 2*time.Hour, sequin.SubscriberConfig{MaxInFlight: tc.room, PollMax: 100 * time.Millisecond})
				b := w.batchesFor(t, time.Minute, sub, sequin.BatchHandlerConfig{Size: tc.size, Wait: tc.wait}, 0)
				require.Equal(t, tc.sizes, b.sizes)
				require.Len(t, b.times(), tc.n)
				require.LessOrEqual(t, b.at[len(b.at)-1], tc.longest)
				require.EqualValues(t, tc.n, sub.Stats().Acked)
				w.requireSettled(t, "orders")
			})
		})
	}
}

func TestABatchDoesNotWaitForMoreThanMaxAckPending(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 2 * time.Hour, MaxAckPending: 10})
		w.publish(t, "k", 10)
		b := w.batchesFor(t, time.Second, w.subscribe(t, sequin.SubscriberConfig{}), sequin.BatchHandlerConfig{Size: 50, Wait: time.Hour}, 0)
		require.Equal(t, []int{10}, b.sizes)
		w.requireSettled(t, "orders")
	})
}

// Deliveries that a handler has settled itself use no room, although the handler is still busy with them.
func TestABatchIsNotCompleteWhileTheChannelHoldsDeliveries(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 10, time.Hour, sequin.SubscriberConfig{MaxInFlight: 10})
		b := batches{began: time.Now()}
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.BatchHandlerConfig{Size: 10, Wait: 10 * time.Minute, Workers: 2}
			return sub.HandleBatch(ctx, cfg, func(ctx context.Context, batch []sequin.Delivery) error {
				for _, d := range batch {
					require.NoError(t, d.AckSync(ctx))
				}
				b.note(batch)
				time.Sleep(time.Minute)
				return nil
			})
		})
		time.Sleep(time.Second)
		w.publish(t, "later", 10)
		time.Sleep(5 * time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, []int{10, 10}, b.handled())
		w.requireSettled(t, "orders")
	})
}

func TestABatchGrowsWhileAllWorkersAreBusy(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		b := batches{began: time.Now()}
		run := w.start(t, func(ctx context.Context) error {
			return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 50, Wait: time.Millisecond}, func(_ context.Context, batch []sequin.Delivery) error {
				b.note(batch)
				time.Sleep(5 * time.Second)
				return nil
			})
		})
		time.Sleep(2 * time.Second)
		for _, prefix := range []string{"a", "b", "c"} { // one after the other, while the first is being handled
			w.publish(t, prefix, 10)
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(20 * time.Second)
		require.NoError(t, run.stop())
		require.Equal(t, []int{1, 30}, b.sizes)
	})
}

func TestABatchsErrorConcernsTheDeliveriesThatItsHandlerDidNotSettle(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 10, time.Minute, sequin.SubscriberConfig{})
		var b batches
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.BatchHandlerConfig{Size: 10, Wait: time.Second, BackoffMin: 10 * time.Second, OnError: b.failed}
			return sub.HandleBatch(ctx, cfg, func(_ context.Context, batch []sequin.Delivery) error {
				if b.note(batch); len(b.sizes) > 1 {
					return nil
				}
				for _, d := range batch[:4] {
					require.NoError(t, d.Ack())
				}
				return errDown
			})
		})
		time.Sleep(4 * time.Second)
		require.EqualValues(t, 4, sub.Stats().Acked)
		require.Len(t, b.reported(), 6, "one report for each delivery that was not settled")
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.EqualValues(t, 10, sub.Stats().Acked)
		times := b.times()
		n := 0
		for _, count := range times {
			n += count
		}
		require.Equal(t, 16, n)
		w.requireSettled(t, "orders")
	})
}

func TestABadMessageIsFoundAmongManyAndTheOthersAreHandled(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 500, 2*time.Minute, sequin.SubscriberConfig{})
		_, err := w.client.CreateStream(w.ctx, "dead", sequin.StreamOptions{})
		require.NoError(t, err)
		bad := []string{"k.17", "k.18", "k.333"}
		var b batches
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.BatchHandlerConfig{Size: 100, BackoffMin: time.Second, BackoffMax: 2 * time.Second,
				DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 4, Key: func(d sequin.Delivery) string { return d.Key }}}
			return sub.HandleBatch(ctx, cfg, func(_ context.Context, batch []sequin.Delivery) error {
				b.note(batch)
				for _, d := range batch {
					if slices.Contains(bad, d.Key) {
						return errDown
					}
				}
				return nil
			})
		})
		time.Sleep(2 * time.Minute)
		require.NoError(t, run.stop())
		dead := w.data(t, "dead")
		require.Len(t, dead, 3, "no message becomes a dead letter because of another")
		for _, key := range bad {
			require.Len(t, dead[key], 1, key)
			require.Equal(t, 4, b.times()[key], key)
		}
		w.requireSettled(t, "orders")
	})
}

func TestAfterAPermanentErrorOfABatchEachMessageIsHandledAlone(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 8, 2*time.Minute, sequin.SubscriberConfig{})
		_, err := w.client.CreateStream(w.ctx, "dead", sequin.StreamOptions{})
		require.NoError(t, err)
		var b batches
		run := w.start(t, func(ctx context.Context) error {
			return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 8, Wait: time.Second, DeadLetter: &sequin.DeadLetter{Stream: "dead"}},
				func(_ context.Context, batch []sequin.Delivery) error {
					b.note(batch)
					if slices.ContainsFunc(batch, func(d sequin.Delivery) bool { return d.Key == "k.3" }) {
						return sequin.Permanent(errDown)
					}
					return nil
				})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, []int{8, 1, 1, 1, 1, 1, 1, 1, 1}, b.sizes)
		require.Len(t, w.data(t, "dead"), 1)
		w.requireSettled(t, "orders")
	})
}

func TestABatchThatNoWorkerIsFreeForIsReturnedInTime(t *testing.T) {
	withStates(t, func(t *testing.T, w *world, states *stateLog) {
		sub := w.backlog(t, 20, 10*time.Second, sequin.SubscriberConfig{})
		var b batches
		release := make(chan struct{})
		run := w.start(t, func(ctx context.Context) error {
			return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 10, Wait: time.Second}, func(_ context.Context, batch []sequin.Delivery) error {
				b.note(batch)
				<-release
				return nil
			})
		})
		time.Sleep(5 * time.Second)
		require.Zero(t, sub.Stats().ExpiredInBuffer)
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 10, sub.Stats().ExpiredInBuffer, "the waiting batch was returned two margins before the end of its lease")
		require.Equal(t, []sequin.StateInfo{{Stream: "orders", Consumer: "all", State: sequin.StateExpired, Messages: 10}}, states.take(sequin.StateExpired))
		for _, times := range w.outstanding(t) {
			require.Equal(t, 1, times, "it was not counted as a delivery")
		}
		close(release)
		time.Sleep(20 * time.Second)
		require.NoError(t, run.stop())
		require.Len(t, b.times(), 20)
		w.requireSettled(t, "orders")
	})
}

// outstanding returns how often each leased message has been delivered.
func (w *world) outstanding(t *testing.T) (counts []int) {
	t.Helper()
	state, ok := w.Stream("orders")
	require.True(t, ok)
	for _, o := range state.Consumers[0].Outstanding {
		counts = append(counts, o.DeliverCount)
	}
	return counts
}

func TestABatchsCtxEndsWithItsFirstLease(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 2, 10*time.Second, sequin.SubscriberConfig{})
		checked := false
		run := w.start(t, func(ctx context.Context) error {
			return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 4, Wait: 3 * time.Second, MaxHandling: untilDeadline}, func(ctx context.Context, batch []sequin.Delivery) error {
				first := batch[0].Deadline
				for _, d := range batch {
					if d.Deadline.Before(first) {
						first = d.Deadline
					}
				}
				deadline, ok := ctx.Deadline()
				require.True(t, ok)
				require.Equal(t, first, deadline)
				require.Len(t, batch, 3)
				checked = true
				return nil
			})
		})
		time.Sleep(2 * time.Second)
		w.publish(t, "later", 1)
		time.Sleep(5 * time.Second)
		require.NoError(t, run.stop())
		require.True(t, checked)
	})
}

func TestAStopReturnsAPartialBatchWithoutCountingADelivery(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		sub := w.backlog(t, 7, time.Hour, sequin.SubscriberConfig{})
		run := w.start(t, func(ctx context.Context) error {
			return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 10, Wait: 10 * time.Minute}, func(context.Context, []sequin.Delivery) error {
				require.Fail(t, "nothing is handled before Wait is over")
				return nil
			})
		})
		time.Sleep(time.Second)
		stopped := time.Now()
		require.NoError(t, run.stop())
		require.Less(t, time.Since(stopped), time.Second)
		synctest.Wait() // the server ends the receive that was cancelled
		got, err := w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{BatchSize: 10})
		require.NoError(t, err)
		require.Len(t, got, 7)
		for _, m := range got {
			require.Equal(t, 1, m.DeliverCount)
		}
	})
}

func TestABatchHandlersOutageIsProbedWithBatchesOfOne(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 2000, time.Minute, sequin.SubscriberConfig{})
		var b batches
		var down atomic.Bool
		down.Store(true)
		run := w.start(t, func(ctx context.Context) error {
			return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 50, BackoffMin: time.Second, BackoffMax: 8 * time.Second}, func(_ context.Context, batch []sequin.Delivery) error {
				if b.note(batch); down.Load() {
					return errDown
				}
				return nil
			})
		})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		sizes := b.handled()
		require.Equal(t, 1, sizes[len(sizes)-1])
		require.LessOrEqual(t, len(sizes), 10+4+300/4)
		down.Store(false)
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Len(t, b.times(), 2000)
		w.requireSettled(t, "orders")
	})
}

func TestHandleBatchRefusesAnInvalidConfig(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{MaxInFlight: 50})
		nothing := func(context.Context, []sequin.Delivery) error { return nil }
		for named, cfg := range map[string]sequin.BatchHandlerConfig{
			"Size is 51":     {Size: 51},
			"Size is -1":     {Size: -1},
			"Wait is -1ns":   {Wait: -1},
			"Workers is 51":  {Workers: 51},
			"BackoffMin -1n": {BackoffMin: -1},
		} {
			err := sub.HandleBatch(w.ctx, cfg, nothing)
			require.ErrorIs(t, err, sequin.ErrInvalidConfig, named)
			require.True(t, strings.Contains(err.Error(), named), err)
		}
		require.ErrorIs(t, sub.HandleBatch(w.ctx, sequin.BatchHandlerConfig{}, nil), sequin.ErrInvalidArgument)
		run := w.start(t, func(ctx context.Context) error { return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{}, nothing) })
		time.Sleep(time.Second)
		require.NoError(t, run.stop(), "the default Size is at most MaxInFlight")
	})
}

func TestABatchIsHandledBeforeItsLeaseEndsHoweverLongWaitIs(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 30*time.Second, sequin.SubscriberConfig{})
		var b batches
		run := w.start(t, func(ctx context.Context) error {
			return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 10, Wait: time.Minute}, func(_ context.Context, batch []sequin.Delivery) error {
				b.note(batch)
				return nil
			})
		})
		time.Sleep(5 * time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, []int{1}, b.sizes)
		require.Zero(t, sub.Stats().ExpiredInBuffer)
	})
}
