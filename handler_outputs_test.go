package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// hang makes a stream accept sends and answer none, until the fault is removed.
func (w *world) hang(stream string) *sequintest.FaultHandle {
	return w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to(stream), Delay: 24 * time.Hour})
}

// copiesSent returns how often each message was in a request to a stream.
func (w *world) copiesSent(stream string) map[string]int {
	n := map[string]int{}
	for _, r := range w.Requests(sequintest.Send) {
		if to(stream)(&r) {
			for _, m := range r.Messages() {
				n[m.Key]++
			}
		}
	}
	return n
}

func TestATargetThatHangsPilesUpNoCopies(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		const n, minutes = 100, 10
		sub := w.backlog(t, n, 4*time.Second, sequin.SubscriberConfig{})
		w.deadStream(t)
		hangs := w.hang("target")
		var transformed atomic.Int64
		cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 1}}
		p := w.pipe(t, sub, sequin.PublisherConfig{}, cfg, func(ctx context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			transformed.Add(1)
			return copies(ctx, d)
		})
		for range minutes * 60 {
			time.Sleep(time.Second)
			require.LessOrEqual(t, p.pub.Stats().Buffered, n, "one copy of each")
		}
		// A request takes Config.Timeout, 30 s. After it those of its messages whose leases have ended are dropped.
		for key, times := range w.copiesSent("target") {
			require.LessOrEqual(t, times, minutes*2, key)
		}
		require.LessOrEqual(t, transformed.Load(), int64(n*minutes*2))
		require.LessOrEqual(t, hangs.Hits(), 4*minutes*2, "four lanes")
		require.Zero(t, sub.Stats().Acked)
		require.Empty(t, w.data(t, "dead"), "an outage is no fault of a message, however often it is delivered")

		hangs.Remove()
		time.Sleep(3 * time.Minute)
		p.end(t)
		require.Len(t, w.data(t, "target"), n)
		w.requireSettled(t, "orders")
	})
}

func TestARedeliveryIsAckedWithTheOutputsInFlight(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 10, 8*time.Second, sequin.SubscriberConfig{})
		slow := w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), DelayAfter: 12 * time.Second}) // longer than the first lease, shorter than the second
		p := w.pipe(t, sub, sequin.PublisherConfig{Lanes: 1, Linger: time.Second}, sequin.HandlerConfig{}, copies)
		time.Sleep(time.Minute)
		require.Equal(t, 1, slow.Hits(), "nothing is sent twice")
		p.end(t)
		require.Empty(t, p.reported())
		require.EqualValues(t, 10, sub.Stats().Acked)
		for key, data := range w.data(t, "target") {
			require.Len(t, data, 1, key)
		}
		w.requireSettled(t, "orders")
	})
}

func TestARedeliveryFailsWithTheOutputsInFlight(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 8*time.Second, sequin.SubscriberConfig{})
		w.deadStream(t)
		refuses := w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), Delay: 10 * time.Second, Status: 422, Body: `{"summary":"no"}`})
		cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 1}}
		p := w.pipe(t, sub, sequin.PublisherConfig{}, cfg, copies)
		time.Sleep(time.Minute)
		require.Equal(t, 1, refuses.Hits())
		p.end(t)
		require.Len(t, w.deadLetters(t)["k.0"], 1, "by the second delivery")
		w.requireSettled(t, "orders")
	})
}

// Two workers handle the same message, because the first one works for longer than its lease.
func TestATransformThatOutlivesItsLeaseSendsNothingTwice(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 8*time.Second, sequin.SubscriberConfig{})
		slow := w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), DelayAfter: 4 * time.Second})
		var calls atomic.Int64
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{Workers: 2, MaxHandling: untilDeadline}, func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			call := calls.Add(1)
			if call == 1 {
				time.Sleep(10 * time.Second)
			}
			return []sequin.Message{{Key: d.Key, Data: fmt.Sprint(call)}}, nil
		})
		time.Sleep(time.Minute)
		p.end(t)
		require.EqualValues(t, 2, calls.Load())
		require.Equal(t, 1, slow.Hits())
		require.EqualValues(t, 1, sub.Stats().Acked)
		require.Empty(t, p.reported())
		w.requireSettled(t, "orders")
	})
}

// bad reports whether the handler returns a permanent error for a message.
func bad(d sequin.Delivery) bool { return strings.HasPrefix(d.Key, "bad") }

func TestDeadLettersInFlightTakeAtMostHalfOfMaxInFlight(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		"hanging":     {Op: sequintest.Send, Match: to("dead"), Delay: 24 * time.Hour},
		"unavailable": {Op: sequintest.Send, Match: to("dead"), CutBefore: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.deadStream(t)
				sub := w.backlog(t, 0, 10*time.Minute, sequin.SubscriberConfig{MaxInFlight: 20})
				w.publish(t, "down", 8)
				w.publish(t, "bad", 8)
				outage := w.Fault(fault)
				var b callLog
				cfg := sequin.HandlerConfig{BackoffMax: 20 * time.Second, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 1000}, OnError: b.failed}
				run := w.start(t, func(ctx context.Context) error {
					return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
						switch b.note(d); {
						case bad(d):
							return sequin.Permanent(errDown)
						case strings.HasPrefix(d.Key, "down"):
							return errDown
						}
						return nil
					})
				})
				for range 120 {
					time.Sleep(time.Second)
					require.LessOrEqual(t, sub.Stats().InFlight, 10, "dead letters and delayed nacks together")
				}
				require.Less(t, w.Count(sequintest.Receive), 200)
				w.publish(t, "fresh", 100)
				time.Sleep(3 * time.Minute)
				for i := range 100 {
					require.Equal(t, 1, b.times()[fmt.Sprintf("fresh.%d", i)], "fresh.%d", i)
				}
				outage.Remove()
				time.Sleep(time.Minute)
				require.Len(t, w.deadLetters(t), 8)
				require.NoError(t, run.stop())
			})
		})
	}
}

func TestADeadLetterTakesThePlaceOfADelayedNack(t *testing.T) {
	inDocumentedWithout(t, []string{"nack-delay"}, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 5, 10*time.Minute, sequin.SubscriberConfig{MaxInFlight: 20})
		hangs := w.hang("dead")
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.HandlerConfig{BackoffMin: 5 * time.Minute, DeadLetter: &sequin.DeadLetter{Stream: "dead"}}
			return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
				if bad(d) {
					return sequin.Permanent(errDown)
				}
				return errDown
			})
		})
		time.Sleep(time.Second)
		require.Equal(t, 5, sub.Stats().InFlight, "their nacks are delayed")
		w.publish(t, "bad", 8)
		time.Sleep(time.Second)
		require.Positive(t, hangs.Hits())
		require.LessOrEqual(t, sub.Stats().InFlight, 10)
		hangs.Remove()
		time.Sleep(time.Second)
		require.NotEmpty(t, w.deadLetters(t))
		require.NoError(t, run.stop())
	})
}

func TestDeadLettersBeyondHalfOfMaxInFlightAreDelayedAndReported(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 19, time.Minute, sequin.SubscriberConfig{MaxInFlight: 20})
		hangs := w.hang("dead")
		var b callLog
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(20 * time.Second)
		require.Equal(t, 10, sub.Stats().InFlight, "half of MaxInFlight")
		require.ErrorContains(t, errors.Join(b.reported()...), "too many dead letters are in flight")
		hangs.Remove()
		time.Sleep(time.Minute)
		require.Len(t, w.deadLetters(t), 19)
		require.NoError(t, run.stop())
		w.requireSettled(t, "orders")
	})
}

// A probe that only waits for outputs in flight says nothing about the handler. The next one follows at once.
func TestARedeliveryThatJoinsOutputsInFlightIsNotAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{Timeout: 10 * time.Minute})
		sub := w.backlog(t, 20, time.Minute, sequin.SubscriberConfig{})
		hangs := w.hang("target")
		began := time.Now()
		var well atomic.Int64
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{}, func(ctx context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			switch {
			case d.Key == "k.0":
				return copies(ctx, d) // it is redelivered after a minute, before the others
			case time.Since(began) < 61*time.Second:
				return nil, errDown
			}
			well.Add(1)
			return nil, nil
		})
		time.Sleep(100 * time.Second) // there is a probe at least every 30 s
		require.EqualValues(t, 19, well.Load())
		hangs.Remove()
		time.Sleep(time.Second)
		p.end(t)
		w.requireSettled(t, "orders")
	})
}
