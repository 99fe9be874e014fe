package sequin_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// A nack in a range loop is an attempt. A release is none, and needs no wait for the end of the lease.
func TestAReleasedMessageIsAvailableAtOnceAndNotCounted(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.send(t, "k.1", "x")
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		for range 3 {
			d := next(t, sub, 2*time.Second)
			require.NoError(t, d.Release())
			require.ErrorIs(t, d.Release(), sequin.ErrSettled)
		}
		d, counts := next(t, sub, 2*time.Second), w.mode == server.Documented
		if counts {
			require.Equal(t, 1, d.Attempt)
		}
		require.NoError(t, d.Nack())
		if d = next(t, sub, 2*time.Second); counts {
			require.Equal(t, 2, d.Attempt)
		}
		require.NoError(t, d.Ack())
		closeNow(t, sub)
		w.requireDone(t)
		require.Equal(t, uint64(4), sub.Stats().Nacked, "a release is a nack of the program")
	})
}

// What a handler gives back it has not failed, however often and whatever it returns.
func TestAHandlerThatReleasesHasNotFailed(t *testing.T) {
	const releases = 30
	for name, returned := range map[string]error{"nil": nil, "an error": errDown} {
		t.Run(name, func(t *testing.T) {
			withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
				sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
				var b callLog
				cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}, OnError: b.failed}
				run := w.start(t, func(ctx context.Context) error {
					return handle(ctx, sub, cfg, func(_ context.Context, d sequin.Delivery) error {
						if b.note(d); b.count() > releases {
							return nil
						}
						require.NoError(t, d.Release())
						return returned
					})
				})
				time.Sleep(time.Minute)
				require.NoError(t, run.stop())
				require.Equal(t, releases+1, b.count(), "no backoff")
				require.Empty(t, w.data(t, "dead"))
				w.requireSettled(t, "orders")
			})
		})
	}
}

// A receive that waits would get the message, and lose it if it is cancelled. The server ends it first, or has a millisecond to notice
// that it is cancelled.
func TestAReleaseDuringAStopIsSentWhenTheReceivesHaveEnded(t *testing.T) {
	release := func(t *testing.T, w *world) {
		w.Fault(sequintest.Fault{Op: sequintest.EndReceive, Delay: 20 * time.Millisecond})
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.send(t, "k.1", "x")
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		time.Sleep(time.Second) // a receive waits
		stopped := make(chan error)
		go func() { stopped <- sub.Close(w.ctx) }()
		<-sub.Stopping()
		require.NoError(t, d.Release())
		synctest.Wait()
		require.Zero(t, w.Count(sequintest.Nack))
		require.NoError(t, <-stopped)
		require.Equal(t, 1, w.Count(sequintest.Nack))
		require.Equal(t, 1, w.consumer(t).Available)
		require.Empty(t, w.consumer(t).Outstanding)
		require.ErrorIs(t, d.Release(), sequin.ErrSettled)
	}
	t.Run("the server ends it", func(t *testing.T) { inDocumented(t, release) })
	t.Run("it is cancelled", func(t *testing.T) { inDocumentedWithout(t, []string{"end-receive"}, release) })
}

func TestStoppingTellsOfEveryStop(t *testing.T) {
	for name, stop := range map[string]func(t *testing.T, w *world, sub *sequin.Subscriber, cancel context.CancelFunc){
		"close":          func(_ *testing.T, w *world, sub *sequin.Subscriber, _ context.CancelFunc) { go sub.Close(w.ctx) },
		"the end of ctx": func(_ *testing.T, _ *world, _ *sequin.Subscriber, cancel context.CancelFunc) { cancel() },
		"an error": func(t *testing.T, w *world, _ *sequin.Subscriber, _ context.CancelFunc) {
			require.NoError(t, w.client.DeleteConsumer(w.ctx, "orders", "all"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				w.send(t, "k.1", "x")
				ctx, cancel := context.WithCancel(w.ctx)
				defer cancel()
				sub, err := w.client.Subscribe(ctx, "orders", "all", sequin.SubscriberConfig{})
				require.NoError(t, err)
				d := next(t, sub, time.Second)
				select {
				case <-sub.Stopping():
					require.Fail(t, "it runs")
				default:
				}
				stop(t, w, sub, cancel)
				select {
				case <-sub.Stopping():
				case <-time.After(5 * time.Minute):
					require.Fail(t, "it has not stopped")
				}
				_ = d.Ack() // too late where the consumer is gone
				_ = sub.Close(w.ctx)
			})
		})
	}
}
