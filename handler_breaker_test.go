package sequin_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// outage returns a handler that fails while down is set.
func outage(b *callLog, down *atomic.Bool) func(context.Context, sequin.Delivery) error {
	return func(_ context.Context, d sequin.Delivery) error {
		b.note(d)
		if down.Load() {
			return errDown
		}
		return nil
	}
}

func TestWhileEveryHandlerFailsOneMessageAtATimeIsTried(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 2000, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		var down atomic.Bool
		down.Store(true)
		cfg := sequin.HandlerConfig{Workers: 4, BackoffMin: time.Second, BackoffMax: 16 * time.Second, OnError: b.failed}
		run := w.start(t, func(ctx context.Context) error { return sub.Handle(ctx, cfg, outage(&b, &down)) })
		time.Sleep(10 * time.Minute)

		// Ten failures open the breaker, and the calls of other workers end. After that come the steps of 1, 2, 4 and 8 s,
		// and then one probe every 8 to 16 s.
		require.GreaterOrEqual(t, b.count(), 10+5+600/17)
		require.LessOrEqual(t, b.count(), 10+4+5+600/8)
		require.Less(t, w.Count(sequintest.Receive), 100, "one receive for each probe, and the first ones")
		require.LessOrEqual(t, sub.Stats().InFlight, 20, "the rest is available to others")

		down.Store(false)
		recovered := time.Now()
		time.Sleep(16*time.Second + time.Second) // the next probe, and all others at once
		require.Len(t, b.times(), 2000)
		require.GreaterOrEqual(t, sub.Stats().Acked, uint64(1980), "all but those whose nacks are delayed")
		require.LessOrEqual(t, time.Since(recovered), 17*time.Second)
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.EqualValues(t, 2000, sub.Stats().Acked)
		w.requireSettled(t, "orders")
	})
}

func TestAnIdleOutageCostsOneLongPollAProbe(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		sub := w.backlog(t, 12, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		var down atomic.Bool
		down.Store(true)
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: 10 * time.Second, BackoffMax: 30 * time.Second}, outage(&b, &down))
		})
		time.Sleep(30 * time.Minute)
		require.LessOrEqual(t, w.Count(sequintest.Receive), 2+1800/15)
		down.Store(false)
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		w.requireSettled(t, "orders")
	})
}

func TestAnOpenBreakerReturnsBufferedDeliveriesForOtherSubscribers(t *testing.T) {
	whereNacksCannotBeDelayed(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 500, time.Minute, sequin.SubscriberConfig{})
		var b, healthy callLog
		var down, up atomic.Bool
		down.Store(true)
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: 30 * time.Second}, outage(&b, &down))
		})
		time.Sleep(time.Second)
		other := w.subscribe(t, sequin.SubscriberConfig{})
		second := w.start(t, func(ctx context.Context) error {
			return other.Handle(ctx, sequin.HandlerConfig{}, outage(&healthy, &up))
		})
		time.Sleep(5 * time.Second)
		require.Len(t, healthy.times(), 490, "all but the ten whose nacks the first one delays")
		require.NoError(t, run.stop())
		time.Sleep(5 * time.Second)
		require.Len(t, healthy.times(), 500)
		require.NoError(t, second.stop())
		w.requireSettled(t, "orders")
	})
}

func TestAFewBadMessagesDoNotOpenTheBreaker(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 9, 20*time.Second, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: time.Second}, func(_ context.Context, d sequin.Delivery) error {
				if b.note(d); d.Data != "good" {
					return errDown
				}
				return nil
			})
		})
		time.Sleep(10 * time.Minute) // the nine fail again and again
		sent := time.Now()
		_, err := w.client.SendMessage(w.ctx, "orders", "good", "good")
		require.NoError(t, err)
		for b.times()["good"] == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, time.Since(sent), time.Second+10*time.Millisecond, "the pause of a poll")
		require.NoError(t, run.stop())
	})
}

func TestPermanentErrorsDoNotOpenTheBreaker(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 200, time.Minute, sequin.SubscriberConfig{})
		_, err := w.client.CreateStream(w.ctx, "dead", sequin.StreamOptions{})
		require.NoError(t, err)
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead"}}, func(context.Context, sequin.Delivery) error {
				return sequin.Permanent(errDown)
			})
		})
		time.Sleep(10 * time.Second)
		require.Len(t, w.data(t, "dead"), 200, "all become dead letters without a pause")
		require.NoError(t, run.stop())
		w.requireSettled(t, "orders")
	})
}

func TestAProbeWithAPermanentErrorIsFollowedByAnotherAtOnce(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		sub := w.backlog(t, 40, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: 20 * time.Second}, func(_ context.Context, d sequin.Delivery) error {
				b.note(d)
				switch n := b.count(); {
				case n <= 10:
					return errDown
				case n <= 15:
					return sequin.Permanent(errDown)
				}
				return nil
			})
		})
		time.Sleep(21 * time.Second)
		require.Len(t, b.times(), 40, "after a single pause")
		require.NoError(t, run.stop())
	})
}

func TestAProbeThatHangsIsFollowedByAnotherWhenItsLeaseEnds(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		sub := w.backlog(t, 40, 10*time.Second, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{Workers: 2, BackoffMin: time.Second}, func(ctx context.Context, d sequin.Delivery) error {
				b.note(d)
				switch n := b.count(); {
				case n <= 10:
					return errDown
				case n == 11:
					time.Sleep(time.Minute) // ignores its ctx
				}
				return nil
			})
		})
		time.Sleep(30 * time.Second)
		require.Len(t, b.times(), 40)
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		w.requireSettled(t, "orders")
	})
}

func TestAfterAnOutageBadMessagesDoNotDelayTheGoodOnes(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 200, time.Minute, sequin.SubscriberConfig{})
		began, good := time.Now(), 0
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{}, func(_ context.Context, d sequin.Delivery) error {
				if time.Since(began) < 10*time.Minute || d.Key == "k.0" || d.Key == "k.1" || d.Key == "k.2" {
					return errDown
				}
				good++
				return nil
			})
		})
		time.Sleep(20 * time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, 197, good)
	})
}

// costsLittle asserts how many requests ten minutes cost when every one of 200 messages fails and MaxInFlight is 100: a number
// of nacks are delayed, for 15 to 30 s each time, and the other messages are tried one at a time. The Subscriber delays 50, and
// the server all.
func costsLittle(t *testing.T, w *world, delayed int, cfg sequin.HandlerConfig) {
	t.Helper()
	sub := w.backlog(t, 200, time.Minute, sequin.SubscriberConfig{MaxInFlight: 100})
	var b callLog
	cfg.OnError = b.failed
	run := w.start(t, func(ctx context.Context) error {
		return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
			b.note(d)
			return sequin.Permanent(errDown)
		})
	})
	sends := w.Count(sequintest.Send)
	time.Sleep(10 * time.Minute)
	most := delayed*600/15 + 100
	require.LessOrEqual(t, b.count(), most, "calls")
	require.LessOrEqual(t, len(b.reported()), most+200, "one report for each call, and one for each message")
	require.LessOrEqual(t, w.Count(sequintest.Send)-sends, most, "sends")
	require.LessOrEqual(t, w.Count(sequintest.Receive), most, "receives")
	require.LessOrEqual(t, w.Count(sequintest.Nack), 2*most, "nacks, also of deliveries that arrived with a probe")
	require.NoError(t, run.stop())
	require.Zero(t, sub.Stats().Acked)
}

func TestManyPermanentErrorsDoNotCauseABusyLoop(t *testing.T) {
	whereNacksCannotBeDelayed(t, func(t *testing.T, w *world) { costsLittle(t, w, 50, sequin.HandlerConfig{}) })
	inDocumented(t, func(t *testing.T, w *world) { costsLittle(t, w, 200, sequin.HandlerConfig{}) })
}

func TestAMissingDeadLetterStreamDoesNotCauseABusyLoop(t *testing.T) {
	for delayed, modes := range map[int]func(*testing.T, func(*testing.T, *world)){50: whereNacksCannotBeDelayed, 200: inDocumented} {
		modes(t, func(t *testing.T, w *world) {
			w.hideMissing()
			costsLittle(t, w, delayed, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "missing"}})
		})
	}
}

func TestAMessageWithAPermanentErrorIsNackedAfterBackoffMax(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.HandlerConfig{BackoffMin: time.Second, BackoffMax: 20 * time.Second}
			return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
				b.note(d)
				return sequin.Permanent(errDown)
			})
		})
		time.Sleep(19 * time.Second)
		require.Equal(t, 1, b.count())
		require.NoError(t, run.stop())
	})
}
