package sequin_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestTheServerKeepsASnoozedMessageBackForLongerThanItsLease(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.send(t, "k.1", "x")
		began := time.Now()
		require.NoError(t, next(t, sub, time.Second).NackAfter(time.Hour))
		synctest.Wait()
		require.Equal(t, 1, w.consumer(t).Delayed)
		require.Equal(t, uint64(1), sub.Stats().Nacked)
		d := next(t, sub, 2*time.Hour)
		require.Equal(t, time.Hour, time.Since(began))
		require.Equal(t, 2, d.Attempt)
		require.NoError(t, d.AckSync(w.ctx))
		closeNow(t, sub)
	})
}

func TestASnoozedMessageTakesNoRoom(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 100)
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 2})
		for range 100 {
			require.NoError(t, next(t, sub, time.Second).NackAfter(time.Minute))
		}
		synctest.Wait()
		require.Zero(t, sub.Stats().InFlight)
		require.Equal(t, 100, w.consumer(t).Delayed)
		closeNow(t, sub)
	})
}

func TestADelayOutlivesTheSubscriber(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.send(t, "k.1", "x")
		began := time.Now()
		require.NoError(t, next(t, sub, time.Second).NackAfter(5*time.Minute))
		closeNow(t, sub) // at once
		require.Equal(t, 1, w.consumer(t).Delayed)
		other := w.subscribe(t, sequin.SubscriberConfig{})
		require.NoError(t, next(t, other, time.Hour).AckSync(w.ctx))
		require.Equal(t, 5*time.Minute, time.Since(began))
		closeNow(t, other)
	})
}

func TestADelayAboveTheMaximumIsTheMaximum(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{WaitFor: 5 * time.Minute}) // a week has few of them
		w.send(t, "k.1", "x")
		began := time.Now()
		require.NoError(t, next(t, sub, time.Second).NackAfter(1<<62))
		require.NoError(t, next(t, sub, 8*24*time.Hour).AckSync(w.ctx))
		require.Equal(t, sequin.MaxNackDelay, time.Since(began))
		closeNow(t, sub)
	})
}

// Delays of 1 to 30 s, as after a failure of everything, need few requests. None is shortened, and none grows by more than an
// eighth.
func TestDelaysOfAboutTheSameLengthShareARequest(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		const messages, hold = 1000, 20 * time.Millisecond
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", messages)
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: messages, Pollers: 1})
		first := w.Fault(sequintest.Fault{Op: sequintest.Nack, Delay: hold, Count: 2}) // so that the others wait together
		delays, began := map[string]time.Duration{}, time.Now()
		for i := range messages {
			d := next(t, sub, time.Second)
			delays[d.Key] = time.Duration(1000+29*i) * time.Millisecond
			require.NoError(t, d.NackAfter(delays[d.Key]))
		}
		require.NoError(t, first.Wait(w.ctx, 2))
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, messages, w.consumer(t).Delayed)
		require.Less(t, w.Count(sequintest.Nack), 50)
		for range messages {
			d := next(t, sub, time.Minute)
			want, after := delays[d.Key], time.Since(began)
			require.GreaterOrEqual(t, after, want, d.Key)
			require.LessOrEqual(t, after, want+want/8+hold, d.Key)
			require.NoError(t, d.Ack())
		}
		closeNow(t, sub)
	})
}

func TestADelayedNackWhoseAnswerWasLostIsRepeated(t *testing.T) {
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				var failed []error
				sub := w.subscribe(t, sequin.SubscriberConfig{OnAckError: func(_ sequin.Delivery, err error) { failed = append(failed, err) }})
				w.send(t, "k.1", "x")
				loss.Op, loss.Count = sequintest.Nack, 2
				w.Fault(loss)
				began := time.Now()
				require.NoError(t, next(t, sub, time.Second).NackAfter(time.Minute))
				require.NoError(t, next(t, sub, time.Hour).AckSync(w.ctx))
				require.Equal(t, time.Minute, time.Since(began))
				require.Zero(t, sub.Stats().UnknownOutcomes)
				require.Empty(t, failed)
				closeNow(t, sub)
			})
		})
	}
}

// The backoff of many failing messages leaves the room to those that can be handled.
func TestTheServerKeepsAFailedMessageBackForItsBackoff(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 9, 10*time.Second, sequin.SubscriberConfig{MaxInFlight: 2})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.HandlerConfig{BackoffMin: time.Hour, BackoffMax: time.Hour}
			return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
				if b.note(d); d.Data == "good" {
					return nil
				}
				return errDown
			})
		})
		time.Sleep(time.Second)
		require.Equal(t, 9, w.consumer(t).Delayed)
		w.send(t, "good", "good")
		time.Sleep(25 * time.Minute) // a backoff is at least half of BackoffMax
		require.Equal(t, 1, b.times()["good"])
		require.Equal(t, 10, b.count())
		time.Sleep(35 * time.Minute)
		require.GreaterOrEqual(t, b.count(), 19)
		require.NoError(t, run.stop())
		require.Zero(t, sub.Stats().RefusedLate)
	})
}

// A failure during a stop may come from the stop, so that another process gets the message at once.
func TestAFailureDuringAStopReturnsTheMessageWithoutABackoff(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		called := make(chan struct{})
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.HandlerConfig{BackoffMin: time.Hour, BackoffMax: time.Hour}
			return sub.Handle(ctx, cfg, func(context.Context, sequin.Delivery) error {
				close(called)
				<-ctx.Done()
				time.Sleep(time.Second)
				return errDown
			})
		})
		<-called
		require.NoError(t, run.stop())
		require.Equal(t, []int{1, 0}, []int{w.consumer(t).Available, w.consumer(t).Delayed})
	})
}

func TestNackMessagesAfterKeepsMessagesBack(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		w.publish(t, "k", 2)
		got, err := w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})
		require.NoError(t, err)
		fresh := w.as(t, "another program")
		ids := []string{got[0].AckID, got[1].AckID}
		require.NoError(t, fresh.NackMessagesAfter(w.ctx, "orders", "all", time.Hour-time.Millisecond/2, ids))
		require.Equal(t, 1, w.Count(sequintest.GetStream), "to learn what the server announces")
		require.NoError(t, fresh.NackMessagesAfter(w.ctx, "orders", "all", time.Second, ids), "an old ack id does nothing")
		require.Equal(t, 1, w.Count(sequintest.GetStream))
		time.Sleep(time.Hour - 1)
		got, err = w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})
		require.NoError(t, err)
		require.Empty(t, got)
		time.Sleep(time.Nanosecond)
		got, err = w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})
		require.NoError(t, err)
		require.Len(t, got, 2)
	})
}

func TestNackMessagesAfterIsRefusedWhereTheServerCannotDelay(t *testing.T) {
	whereNacksCannotBeDelayed(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		err := w.client.NackMessagesAfter(w.ctx, "orders", "all", time.Second, []string{someID})
		require.ErrorIs(t, err, sequin.ErrUnsupported)
		require.EqualError(t, err, `sequin: not supported by the server: it does not announce the extension "nack-delay"`)
		require.Zero(t, w.Count(sequintest.Nack))
		require.ErrorIs(t, w.client.NackMessagesAfter(w.ctx, "nope", "all", time.Second, []string{someID}), sequin.ErrNotFound)
	})
}

func TestNackMessagesAfterChecksItsArguments(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		for _, delay := range []time.Duration{0, -time.Second, sequin.MaxNackDelay + 1} {
			require.ErrorIs(t, w.client.NackMessagesAfter(w.ctx, "orders", "all", delay, []string{someID}), sequin.ErrInvalidArgument, fmt.Sprint(delay))
		}
		require.ErrorIs(t, w.client.NackMessagesAfter(w.ctx, "orders", "all", time.Second, []string{"x"}), sequin.ErrInvalidAckID)
		require.ErrorIs(t, w.client.NackMessagesAfter(w.ctx, "", "all", time.Second, []string{someID}), sequin.ErrInvalidArgument)
		require.Empty(t, w.Requests())
	})
}
