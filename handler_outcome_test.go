package sequin_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// handlersOfOne are the three kinds of handlers, with a function for one delivery. Pipe's has no output.
var handlersOfOne = map[string]func(context.Context, *world, *sequin.Subscriber, sequin.HandlerConfig, func(context.Context, sequin.Delivery) error) error{
	"Handle": func(ctx context.Context, _ *world, sub *sequin.Subscriber, cfg sequin.HandlerConfig, handle func(context.Context, sequin.Delivery) error) error {
		return sub.Handle(ctx, cfg, handle)
	},
	"HandleBatch": func(ctx context.Context, _ *world, sub *sequin.Subscriber, cfg sequin.HandlerConfig, handle func(context.Context, sequin.Delivery) error) error {
		return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 1, Workers: cfg.Workers, BackoffMin: cfg.BackoffMin, BackoffMax: cfg.BackoffMax,
			MaxHandling: cfg.MaxHandling, DeadLetter: cfg.DeadLetter, OnError: cfg.OnError}, func(ctx context.Context, batch []sequin.Delivery) error { return handle(ctx, batch[0]) })
	},
	"Pipe": func(ctx context.Context, w *world, sub *sequin.Subscriber, cfg sequin.HandlerConfig, handle func(context.Context, sequin.Delivery) error) error {
		pub, err := w.client.NewPublisher("dead", sequin.PublisherConfig{})
		if err != nil {
			return err
		}
		err = sub.Pipe(ctx, pub, cfg, func(ctx context.Context, d sequin.Delivery) ([]sequin.Message, error) { return nil, handle(ctx, d) })
		return errors.Join(err, pub.Close(context.WithoutCancel(ctx)))
	},
}

// withEachHandler runs promise with each kind of handlers, in both modes. Each has a stream "dead" for dead letters.
func withEachHandler(t *testing.T, promise func(t *testing.T, w *world, run func(context.Context, *sequin.Subscriber, sequin.HandlerConfig, func(context.Context, sequin.Delivery) error) error)) {
	t.Helper()
	for name, run := range handlersOfOne {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.deadStream(t)
				promise(t, w, func(ctx context.Context, sub *sequin.Subscriber, cfg sequin.HandlerConfig, handle func(context.Context, sequin.Delivery) error) error {
					return run(ctx, w, sub, cfg, handle)
				})
			})
		})
	}
}

type runHandler = func(context.Context, *sequin.Subscriber, sequin.HandlerConfig, func(context.Context, sequin.Delivery) error) error

// The message is snoozed more often than a message may be delivered before it counts as a poison message.
func TestASnoozeIsNoFailure(t *testing.T) {
	const snoozes = 30
	for name, returned := range map[string]error{"nil": nil, "an error": errDown, "a permanent error": sequin.Permanent(errDown)} {
		for delay, by := range map[string]time.Duration{"later": 200 * time.Millisecond, "at once": -time.Second} {
			t.Run(name+", "+delay, func(t *testing.T) {
				withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
					sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
					var b callLog
					cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}, OnError: b.failed}
					run := w.start(t, func(ctx context.Context) error {
						return handle(ctx, sub, cfg, func(_ context.Context, d sequin.Delivery) error {
							if b.note(d); b.count() > snoozes {
								return nil
							}
							require.NoError(t, d.NackAfter(by))
							return returned
						})
					})
					time.Sleep(2 * time.Minute)
					require.NoError(t, run.stop())
					require.Empty(t, w.data(t, "dead"), "after %d calls", b.count())
					require.Equal(t, snoozes+1, b.count(), "nothing but the snoozes delays the message")
					require.LessOrEqual(t, b.calls[snoozes].at, 40*time.Second, "no backoff")
					w.requireSettled(t, "orders")
					if returned == nil {
						require.Empty(t, b.reported())
					} else {
						require.Len(t, b.reported(), snoozes, "what a program returns is not dropped")
					}
				})
			})
		}
	}
}

// Each of two processes has had half of the deliveries, and may not take the others for crashes.
func TestAMessageThatTwoProcessesSnoozeInTurnIsNoDeadLetter(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		subs := []*sequin.Subscriber{w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{}), w.subscribe(t, sequin.SubscriberConfig{})}
		var b callLog
		var runs []*running
		for _, sub := range subs {
			cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}}
			runs = append(runs, w.start(t, func(ctx context.Context) error {
				return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
					if b.note(d); b.count() > 60 {
						return nil
					}
					return d.NackAfter(200 * time.Millisecond)
				})
			}))
		}
		time.Sleep(time.Minute)
		for i, run := range runs {
			require.NotZero(t, subs[i].Stats().Nacked)
			require.NoError(t, run.stop())
		}
		require.Empty(t, w.data(t, "dead"))
		require.Equal(t, 61, b.count())
		w.requireSettled(t, "orders")
	})
}

func TestASnoozeDoesNotOpenTheBreaker(t *testing.T) {
	logged(t, func(t *testing.T, w *world, log *logs) {
		sub := w.backlog(t, 50, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{}, func(_ context.Context, d sequin.Delivery) error {
				b.note(d)
				require.NoError(t, d.NackAfter(20*time.Second))
				return errDown
			})
		})
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		require.Equal(t, 50, b.count())
		require.NotContains(t, log.String(), "one message at a time")
		require.NotContains(t, log.String(), "level=WARN")
	})
}

// A snooze is no success either: the breaker opens although snoozes come between the failures.
func TestSnoozesBetweenFailuresDoNotKeepTheBreakerClosed(t *testing.T) {
	logged(t, func(t *testing.T, w *world, log *logs) {
		sub := w.backlog(t, 40, time.Minute, sequin.SubscriberConfig{})
		run := w.start(t, func(ctx context.Context) error {
			calls := 0
			return sub.Handle(ctx, sequin.HandlerConfig{}, func(_ context.Context, d sequin.Delivery) error {
				if calls++; calls%2 == 0 {
					return d.NackAfter(20 * time.Second)
				}
				return errDown
			})
		})
		time.Sleep(time.Second)
		require.NoError(t, run.stop())
		require.Contains(t, log.String(), "one message at a time")
	})
}

func TestASnoozeNeitherCountsNorClearsFailures(t *testing.T) {
	withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		cfg := sequin.HandlerConfig{BackoffMin: time.Second, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 3}}
		run := w.start(t, func(ctx context.Context) error {
			return handle(ctx, sub, cfg, func(_ context.Context, d sequin.Delivery) error {
				if b.note(d); b.count()%2 == 0 {
					return d.NackAfter(time.Second)
				}
				return errDown
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, 5, b.count(), "three failures, and two snoozes in between")
		require.Equal(t, 3, w.deadLetters(t)["k.0"][0].Attempts)
		w.requireSettled(t, "orders")
	})
}

func TestASnoozedDeliveryOfABatchDidNotFailWithIt(t *testing.T) {
	for name, returned := range map[string]error{"nil": nil, "an error": errDown} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.deadStream(t)
				sub := w.backlog(t, 3, time.Minute, sequin.SubscriberConfig{})
				var b callLog
				run := w.start(t, func(ctx context.Context) error {
					cfg := sequin.BatchHandlerConfig{Size: 3, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}, BackoffMax: time.Second}
					return sub.HandleBatch(ctx, cfg, func(_ context.Context, batch []sequin.Delivery) error {
						for _, d := range batch {
							if b.note(d); d.Key == "k.1" && b.times()["k.1"] < 10 {
								require.NoError(t, d.NackAfter(time.Second))
							} else if d.Key == "k.1" {
								return nil
							}
						}
						return returned
					})
				})
				time.Sleep(time.Minute)
				require.NoError(t, run.stop())
				require.NotContains(t, w.deadLetters(t), "k.1")
				require.Equal(t, 10, b.times()["k.1"])
				require.Equal(t, returned != nil, len(w.deadLetters(t)) == 2, "the others: %v", w.deadLetters(t))
				w.requireSettled(t, "orders")
			})
		})
	}
}

// A NackAfter that comes too late is not a failure either.
func TestASnoozeAfterTheDeadlineIsNoFailure(t *testing.T) {
	withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
		sub := w.backlog(t, 1, 4*time.Second, sequin.SubscriberConfig{})
		var calls atomic.Int32
		run := w.start(t, func(ctx context.Context) error {
			return handle(ctx, sub, sequin.HandlerConfig{MaxHandling: untilDeadline, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 1}}, func(_ context.Context, d sequin.Delivery) error {
				if calls.Add(1) > 8 {
					return nil
				}
				time.Sleep(time.Until(d.Deadline) + 1)
				require.ErrorIs(t, d.NackAfter(time.Second), sequin.ErrLeaseExpired)
				return errDown
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Empty(t, w.data(t, "dead"))
		require.EqualValues(t, 9, calls.Load())
		require.EqualValues(t, 8, sub.Stats().OutlivedLease)
		w.requireSettled(t, "orders")
	})
}

var errOfADriver = errors.New("pq: canceling statement due to user request")

// interruptions are the ways in which a stop interrupts a handler. ctx is that of the program, which ends with that of
// Handle.
var interruptions = map[string]func(ctx, ofHandler context.Context) error{
	"the handler's ctx":               func(_, ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	"the handler's ctx, wrapped":      func(_, ctx context.Context) error { <-ctx.Done(); return errors.Join(errDown, ctx.Err()) },
	"the handler's ctx, by a driver":  func(_, ctx context.Context) error { <-ctx.Done(); return errOfADriver },
	"the handler's ctx, as permanent": func(_, ctx context.Context) error { <-ctx.Done(); return sequin.Permanent(ctx.Err()) },
	"a ctx of the program":            func(ctx, _ context.Context) error { <-ctx.Done(); return ctx.Err() },
	"a ctx of the program, its cause": func(ctx, _ context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
}

func TestAHandlerThatAStopInterruptsHasNotFailed(t *testing.T) {
	for name, interrupted := range interruptions {
		for stopped, stop := range map[string]func(*sequin.Subscriber, func()){
			"the end of ctx": func(_ *sequin.Subscriber, cancel func()) { cancel() },
			"Close": func(sub *sequin.Subscriber, cancel func()) {
				if strings.Contains(name, "of the program") {
					cancel()
				}
				ended, end := context.WithTimeout(context.Background(), time.Second)
				go func() { defer end(); _ = sub.Close(ended) }()
			},
		} {
			t.Run(name+", "+stopped, func(t *testing.T) {
				withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
					sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{DrainTimeout: time.Second})
					ctx, cancel := context.WithCancelCause(w.ctx)
					time.AfterFunc(5*time.Second, func() { stop(sub, func() { cancel(errors.New("a deployment")) }) })
					var b callLog
					err := handle(ctx, sub, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 1}, OnError: b.failed},
						func(ofHandler context.Context, d sequin.Delivery) error {
							b.note(d)
							return interrupted(ctx, ofHandler)
						})
					require.NoError(t, err, "nothing is left")
					require.Equal(t, 1, b.count())
					require.Empty(t, b.reported())
					require.Empty(t, w.data(t, "dead"))
					state, _ := w.Stream("orders")
					require.Empty(t, state.Consumers[0].Outstanding)
					require.Equal(t, 1, state.Consumers[0].Available, "others can have it at once")
				})
			})
		}
	}
}

// While a stop waits for the handlers, a call may fail because of it with any error: it does not count towards the dead
// letters, but is reported. A permanent error counts also during a stop.
func TestAFailureDuringAStopIsReportedAndDoesNotCount(t *testing.T) {
	for name, row := range map[string]struct {
		fail func() error
		dead int
	}{
		"an error":           {func() error { return errDown }, 0},
		"a panic":            {func() error { panic(errDown) }, 0},
		"a panic with a ctx": {func() error { panic(context.Canceled) }, 0},
		"a permanent error":  {func() error { return sequin.Permanent(errDown) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
				sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
				ctx, cancel := context.WithCancel(w.ctx)
				var b callLog
				err := handle(ctx, sub, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 1}, OnError: b.failed},
					func(context.Context, sequin.Delivery) error {
						cancel()
						time.Sleep(time.Second)
						return row.fail()
					})
				require.NoError(t, err)
				require.Len(t, b.reported(), 1)
				require.Len(t, w.data(t, "dead"), row.dead)
				state, _ := w.Stream("orders")
				require.Equal(t, 1-row.dead, state.Consumers[0].Available)
			})
		})
	}
}

// Without a stop the error of a context is a failure like any other.
func TestAnErrorOfAContextIsAFailureWithoutAStop(t *testing.T) {
	withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return handle(ctx, sub, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}, OnError: b.failed},
				func(context.Context, sequin.Delivery) error { return context.DeadlineExceeded })
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Len(t, b.reported(), 2)
		require.Len(t, w.deadLetters(t)["k.0"], 1)
	})
}

func TestAHandlerReturnsWhatItsStopLeft(t *testing.T) {
	withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
		sub := w.backlog(t, 5, 5*time.Minute, sequin.SubscriberConfig{DrainTimeout: time.Second})
		release := make(chan struct{})
		run := w.start(t, func(ctx context.Context) error {
			return handle(ctx, sub, sequin.HandlerConfig{Workers: 2}, func(context.Context, sequin.Delivery) error {
				<-release // even after its ctx has ended
				return nil
			})
		})
		time.Sleep(time.Second)
		err := run.stop()
		require.ErrorIs(t, err, sequin.ErrHandlersRunning)
		var left *sequin.DrainError
		require.ErrorAs(t, err, &left)
		require.Equal(t, 2, left.Unsettled+left.Unknown, "what the two handlers hold")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, error(left), sub.Close(w.ctx))
		state, _ := w.Stream("orders")
		require.Len(t, state.Consumers[0].Outstanding, 2)
		close(release)
		time.Sleep(time.Second)
	})
}

// A handler that ignores its ctx until its lease is over does not settle its message either.
func TestAHandlerReturnsThatALeaseEndedDuringItsStop(t *testing.T) {
	withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
		sub := w.backlog(t, 1, 8*time.Second, sequin.SubscriberConfig{DrainTimeout: time.Minute})
		run := w.start(t, func(ctx context.Context) error {
			return handle(ctx, sub, sequin.HandlerConfig{MaxHandling: untilDeadline}, func(context.Context, sequin.Delivery) error {
				time.Sleep(20 * time.Second)
				return nil
			})
		})
		time.Sleep(time.Second)
		var left *sequin.DrainError
		require.ErrorAs(t, run.stop(), &left)
		require.Equal(t, 1, left.Unsettled)
		time.Sleep(time.Minute)
	})
}

func TestAHandlerThatOutlivesItsLeaseIsLoggedAndCounted(t *testing.T) {
	for name, row := range map[string]struct {
		returned error
		settle   func(sequin.Delivery) error // before the deadline
		outlived bool
	}{
		"succeeds": {outlived: true},
		"fails":    {outlived: true, returned: errDown},
		"acked":    {settle: sequin.Delivery.Ack},
	} {
		t.Run(name, func(t *testing.T) {
			logged(t, func(t *testing.T, w *world, log *logs) {
				sub := w.backlog(t, 1, time.Second, sequin.SubscriberConfig{})
				var calls atomic.Uint64
				run := w.start(t, func(ctx context.Context) error {
					return sub.Handle(ctx, sequin.HandlerConfig{MaxHandling: untilDeadline}, func(_ context.Context, d sequin.Delivery) error {
						if calls.Add(1); row.settle != nil {
							require.NoError(t, row.settle(d))
						}
						time.Sleep(2 * time.Second)
						return row.returned
					})
				})
				time.Sleep(time.Minute)
				_ = run.stop() // which may leave a delivery unsettled
				time.Sleep(10 * time.Second)
				if !row.outlived {
					require.Zero(t, sub.Stats().OutlivedLease)
					require.NotContains(t, log.String(), "outlived")
					require.NotContains(t, log.String(), "has not returned")
					return
				}
				require.Greater(t, calls.Load(), uint64(10))
				require.Equal(t, calls.Load(), sub.Stats().OutlivedLease)
				require.Regexp(t, `level=WARN msg=".* outlived its lease.* key=k\.0 took=2s deliveries=1 ack_wait=1s`, log.String())
			})
		})
	}
}

func TestHandlersThatOutliveTheirLeasesAreLoggedOnceASecond(t *testing.T) {
	logged(t, func(t *testing.T, w *world, log *logs) {
		sub := w.backlog(t, 500, 200*time.Millisecond, sequin.SubscriberConfig{})
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{MaxHandling: untilDeadline, Workers: 50}, func(ctx context.Context, d sequin.Delivery) error {
				time.Sleep(time.Until(d.Deadline) + time.Millisecond)
				return nil
			})
		})
		time.Sleep(10 * time.Second)
		_ = run.stop()
		require.Greater(t, sub.Stats().OutlivedLease, uint64(100))
		n := strings.Count(log.String(), "outlived its lease")
		require.GreaterOrEqual(t, n, 8)
		require.LessOrEqual(t, n, 12)
		require.Contains(t, log.String(), "took=151ms deliveries=250 ", "five times fifty since the last line")
	})
}

func TestAMissingDeadLetterStreamIsFoundWhenHandlersStart(t *testing.T) {
	withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "missing"}}
		err := handle(w.ctx, sub, cfg, func(context.Context, sequin.Delivery) error { return nil })
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.ErrorContains(t, err, `DeadLetter.Stream "missing" does not exist; create it`)
		cfg.DeadLetter.Stream = "dead"
		run := w.start(t, func(ctx context.Context) error {
			return handle(ctx, sub, cfg, func(context.Context, sequin.Delivery) error { return nil })
		})
		time.Sleep(time.Second)
		require.NoError(t, run.stop())
		w.requireSettled(t, "orders")
	})
}

func TestHandlersStartWhenTheDeadLetterStreamCannotBeRead(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		"unavailable":      {Status: 503},
		"no answer":        {CutBefore: true},
		"a slow answer":    {Delay: time.Minute},
		"refused":          {Status: 403},
		"an ingress's 404": {Status: 404, Body: "<html>default backend</html>"},
	} {
		t.Run(name, func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				w.deadStream(t)
				sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
				fault.Op, fault.Count = sequintest.GetStream, 1
				w.Fault(fault)
				run := w.handleFailing(t, sub, new(callLog), sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
				time.Sleep(5 * time.Second)
				require.Len(t, w.deadLetters(t)["k.0"], 1)
				require.NoError(t, run.stop())
			})
		})
	}
}

// Such a handler blocks a worker forever, and nothing else would name the message that it hangs on.
func TestAHandlerThatHangsIsLoggedWhenItsLeaseEnds(t *testing.T) {
	logged(t, func(t *testing.T, w *world, log *logs) {
		sub := w.backlog(t, 20, 8*time.Second, sequin.SubscriberConfig{DrainTimeout: time.Second})
		release := make(chan struct{})
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{MaxHandling: untilDeadline, Workers: 5}, func(_ context.Context, d sequin.Delivery) error {
				switch d.Key {
				case "k.3":
					require.NoError(t, d.Ack()) // what the handler does now does not concern the message
					<-release
				case "k.7":
					<-release
				}
				return nil
			})
		})
		time.Sleep(7 * time.Second)
		require.NotContains(t, log.String(), "level=WARN")
		time.Sleep(22 * time.Second)
		require.Equal(t, 3, strings.Count(log.String(), "has not returned within its lease"), "other workers hang on the redeliveries")
		require.NotContains(t, log.String(), "key=k.3")
		require.Contains(t, log.String(), `key=k.7 running_for=8s handlers=1`)
		require.NotContains(t, log.String(), "handlers=2", "each call is logged once")
		require.Zero(t, sub.Stats().OutlivedLease, "none has returned")
		close(release)
		time.Sleep(time.Second)
		require.EqualValues(t, 3, sub.Stats().OutlivedLease, "the fourth is in time")
		require.Regexp(t, `key=k\.7 took=(29|21|13)s`, log.String(), "whichever returns first")
		require.NoError(t, run.stop())
	})
}
