package sequin_test

import (
	"context"
	"fmt"
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

// stops are the two ways to stop a Subscriber. Each returns when it has stopped, with the result of Close.
var stops = map[string]func(t *testing.T, sub *sequin.Subscriber, cancel context.CancelFunc) error{
	"by_close": func(t *testing.T, sub *sequin.Subscriber, _ context.CancelFunc) error {
		return sub.Close(context.Background())
	},
	"by_ctx": func(t *testing.T, sub *sequin.Subscriber, cancel context.CancelFunc) error {
		cancel()
		synctest.Wait() // until then a reader may still get a delivery
		drain(sub)
		return sub.Close(context.Background())
	},
}

// drain reads a channel that is being closed, which must be empty.
func drain(sub *sequin.Subscriber) {
	for d := range sub.Deliveries() {
		panic("delivered during a stop: " + d.Key)
	}
}

// inEveryStop runs a promise in both modes and with both ways to stop. A goroutine that a Subscriber leaves running fails
// it, because the bubble does not end.
func inEveryStop(t *testing.T, promise func(t *testing.T, w *world, open func(sequin.SubscriberConfig) *sequin.Subscriber, stop func(*sequin.Subscriber) error)) {
	t.Helper()
	inEveryStopOf(t, inBothModes, promise)
}

// inEveryStopOf is inEveryStop with the servers that modes chooses.
func inEveryStopOf(t *testing.T, modes func(*testing.T, func(*testing.T, *world)), promise func(t *testing.T, w *world, open func(sequin.SubscriberConfig) *sequin.Subscriber, stop func(*sequin.Subscriber) error)) {
	t.Helper()
	for name, way := range stops {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, w *world) {
				cancels := map[*sequin.Subscriber]context.CancelFunc{}
				open := func(cfg sequin.SubscriberConfig) *sequin.Subscriber {
					ctx, cancel := context.WithCancel(context.Background())
					t.Cleanup(cancel)
					sub, err := w.client.Subscribe(ctx, "orders", "all", cfg)
					require.NoError(t, err)
					cancels[sub] = cancel
					return sub
				}
				promise(t, w, open, func(sub *sequin.Subscriber) error { return way(t, sub, cancels[sub]) })
			})
		})
	}
}

func TestAnIdleSubscriberStopsAtOnce(t *testing.T) {
	inEveryStop(t, func(t *testing.T, w *world, open func(sequin.SubscriberConfig) *sequin.Subscriber, stop func(*sequin.Subscriber) error) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := open(sequin.SubscriberConfig{})
		time.Sleep(15*time.Second + 150*time.Millisecond)
		began := time.Now()
		require.NoError(t, stop(sub))
		require.LessOrEqual(t, time.Since(began), time.Millisecond)
		require.NoError(t, sub.Err())
		synctest.Wait()
		require.Zero(t, w.consumer(t).Waiting, "a receive that waits at the server")
	})
}

// The answer of such a receive may be arriving.
func TestAStopLetsALongPollYoungerThan100msFinish(t *testing.T) {
	inDocumentedWithout(t, []string{"end-receive"}, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(40 * time.Millisecond)
		began := time.Now()
		require.NoError(t, sub.Close(w.ctx))
		require.Equal(t, 60*time.Millisecond, time.Since(began))
	})
}

// The answer of such a receive is always arriving.
func TestAStopLetsAReceiveThatDoesNotWaitFinish(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 10)
		for _, row := range []struct{ takes, want time.Duration }{{time.Second, time.Second}, {time.Minute, 2 * time.Second}} {
			sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 1})
			d := next(t, sub, time.Second)
			slow := w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: row.takes})
			require.NoError(t, d.AckSync(w.ctx))
			synctest.Wait() // the next receive has begun
			began := time.Now()
			require.NoError(t, sub.Close(w.ctx))
			require.Equal(t, row.want, time.Since(began))
			synctest.Wait()
			slow.Remove()
			synctest.Wait()
			require.Empty(t, w.consumer(t).Outstanding, "its messages are returned")
		}
	})
}

// This holds however long the receive has waited at the server.
func TestAStopWaitsForAnAnswerThatHasBegunToArrive(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := subscribe(t, w.through(t, withSlowBody("/receive", time.Second)), sequin.SubscriberConfig{})
		time.Sleep(5 * time.Second)
		w.send(t, "k.1", "x")
		time.Sleep(200 * time.Millisecond)
		began := time.Now()
		require.NoError(t, sub.Close(w.ctx))
		require.Equal(t, 800*time.Millisecond, time.Since(began))
		require.Empty(t, w.consumer(t).Outstanding, "its messages are returned")
	})
}

// After a deploy, messages that no program has begun to handle must be available to another Subscriber at once, and not only
// after their leases. The test does it a hundred times.
func TestABusyStopLeavesNothingBehind(t *testing.T) {
	t.Parallel() // one of the longest
	inEveryStop(t, func(t *testing.T, w *world, open func(sequin.SubscriberConfig) *sequin.Subscriber, stop func(*sequin.Subscriber) error) {
		const rounds, messages = 25, 300 // times four: both modes, both ways
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
		var mu sync.Mutex
		done := map[string]bool{}
		work := func(d sequin.Delivery) {
			mu.Lock()
			defer mu.Unlock()
			if done[d.Key] {
				t.Error(d.Key, "was acked, and redelivered")
			}
			done[d.Key] = true
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
		}
		second := open(sequin.SubscriberConfig{MaxInFlight: 50}) // does not receive all messages, so that the first gets some
		go func() {
			for d := range second.Deliveries() {
				work(d)
				time.Sleep(time.Millisecond)
			}
		}()
		for round := range rounds {
			w.publish(t, fmt.Sprintf("round_%d", round), messages)
			first := open(sequin.SubscriberConfig{})
			for range 1 + round {
				work(next(t, first, time.Second+time.Millisecond))
				if round%3 == 0 {
					time.Sleep(time.Duration(round) * time.Millisecond)
				}
			}
			began := time.Now()
			require.NoError(t, stop(first))
			require.Less(t, time.Since(began), 101*time.Millisecond)
			time.Sleep(time.Second + messages*time.Millisecond) // PollMax, and the second's work
			synctest.Wait()
			w.requireDone(t)
			mu.Lock()
			require.Len(t, done, (round+1)*messages)
			mu.Unlock()
		}
		require.NoError(t, second.Close(context.Background()))
	})
}

func TestAFullBufferThatNobodyReadsStops(t *testing.T) {
	for name, byCtx := range map[string]bool{"by_close": false, "by_ctx": true} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				w.publish(t, "k", 100)
				ctx, cancel := context.WithCancel(w.ctx)
				defer cancel()
				sub, err := w.client.Subscribe(ctx, "orders", "all", sequin.SubscriberConfig{MaxInFlight: 20})
				require.NoError(t, err)
				time.Sleep(time.Second + 200*time.Millisecond)
				require.Equal(t, 20, sub.Stats().InFlight)
				began := time.Now()
				if byCtx {
					cancel()
					synctest.Wait()
					require.Empty(t, w.consumer(t).Outstanding, "no Close is needed")
				}
				require.NoError(t, sub.Close(context.Background()))
				require.LessOrEqual(t, time.Since(began), time.Millisecond)
				require.Zero(t, sub.Stats().HandedOut)
				require.Empty(t, w.consumer(t).Outstanding)
				require.Equal(t, 100, w.consumer(t).Available)
			})
		})
	}
}

func TestAStopWaitsForDeliveriesToBeSettled(t *testing.T) {
	inEveryStop(t, func(t *testing.T, w *world, open func(sequin.SubscriberConfig) *sequin.Subscriber, stop func(*sequin.Subscriber) error) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 30)
		sub := open(sequin.SubscriberConfig{})
		var group sync.WaitGroup
		for range 10 {
			d := next(t, sub, time.Second)
			group.Go(func() {
				time.Sleep(5 * time.Second)
				if err := d.Ack(); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second)
		began := time.Now()
		require.NoError(t, stop(sub))
		require.Equal(t, 4*time.Second, time.Since(began))
		group.Wait()
		require.Equal(t, uint64(10), sub.Stats().Acked)
		require.Equal(t, 20, w.consumer(t).Available)
		require.Empty(t, w.consumer(t).Outstanding)
	})
}

func TestAStopWaitsForAnUnsettledDeliveryUntilItsDeadline(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		w.send(t, "k.1", "x")
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		requireLeft(t, sub.Close(context.Background()), 1, sequin.ErrLeaseExpired)
		require.InDelta(t, 0, time.Since(d.Deadline), float64(time.Millisecond))
	})
}

// DrainTimeout bounds a stop by ctx alone, and the ctx of Close bounds Close. Then DrainError counts the deliveries that
// were not settled.
func TestAStopIsBounded(t *testing.T) {
	for _, row := range []struct {
		name   string
		ctx    bool          // the Subscriber's ctx is cancelled first
		close  time.Duration // the bound of Close; 0 is none
		after  time.Duration // how long after the end of ctx Close is called
		bound  time.Duration
		reason error
	}{
		{"by_ctx_alone", true, 0, 7 * time.Second, 3 * time.Second, context.DeadlineExceeded},
		{"by_close", false, 5 * time.Second, 0, 5 * time.Second, context.DeadlineExceeded},
		{"close_shortens_drain_timeout", true, time.Second, time.Second, 2 * time.Second, context.DeadlineExceeded},
		{"close_lengthens_drain_timeout", true, 8 * time.Second, time.Second, 9 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				w.publish(t, "k", 10)
				ctx, cancel := context.WithCancel(w.ctx)
				defer cancel()
				sub, err := w.client.Subscribe(ctx, "orders", "all", sequin.SubscriberConfig{DrainTimeout: 3 * time.Second})
				require.NoError(t, err)
				var held []sequin.Delivery
				for range 5 {
					held = append(held, next(t, sub, time.Second))
				}
				over := held[0].Context()
				time.Sleep(200 * time.Millisecond)
				began := time.Now()
				if row.ctx {
					cancel()
				}
				require.NoError(t, held[0].Ack())
				time.Sleep(row.after)
				bound, stop := context.Background(), context.CancelFunc(func() {})
				if row.close > 0 {
					bound, stop = context.WithTimeout(bound, row.close)
				}
				defer stop()
				err = sub.Close(bound)
				require.Equal(t, max(row.bound, row.after), time.Since(began))
				var left *sequin.DrainError
				require.ErrorAs(t, err, &left)
				require.Equal(t, 4, left.Unsettled)
				require.Zero(t, left.Unknown)
				require.ErrorIs(t, err, row.reason)
				require.Same(t, err, sub.Close(w.ctx), "every Close returns the same")
				require.Error(t, over.Err(), "a handler of a delivery learns that it is over")
				require.NoError(t, sub.Err())
				require.Equal(t, uint64(1), sub.Stats().Acked)
			})
		})
	}
}

// Close still waits for a settle that is made after DrainTimeout, but before its ctx ends.
func TestCloseReplacesDrainTimeout(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 2)
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		sub, err := w.client.Subscribe(ctx, "orders", "all", sequin.SubscriberConfig{DrainTimeout: 3 * time.Second})
		require.NoError(t, err)
		for _, after := range []time.Duration{4 * time.Second, 5 * time.Second} {
			d := next(t, sub, time.Second)
			time.AfterFunc(after, func() { _ = d.Ack() })
		}
		began := time.Now()
		cancel()
		require.NoError(t, sub.Close(w.ctx))
		require.Equal(t, 5*time.Second, time.Since(began))
		w.requireDone(t)
	})
}

// A settle that hangs when the stop is interrupted may or may not have been carried out.
func TestAStopCountsSettlesOfUnknownOutcome(t *testing.T) {
	for _, op := range []sequintest.Op{sequintest.Ack, sequintest.Nack} {
		inBothModes(t, func(t *testing.T, w *world) {
			w.stream(t, "orders", sequin.ConsumerOptions{})
			w.publish(t, "k", 3)
			sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 3})
			var held []sequin.Delivery
			for range 3 {
				held = append(held, next(t, sub, time.Second))
			}
			w.Fault(sequintest.Fault{Op: op, DelayAfter: time.Hour})
			if op == sequintest.Ack {
				require.NoError(t, held[0].Ack())
			} else {
				require.NoError(t, held[0].Nack())
			}
			synctest.Wait()
			ended, cancel := context.WithCancel(w.ctx)
			cancel()
			err := sub.Close(ended)
			var left *sequin.DrainError
			require.ErrorAs(t, err, &left)
			require.Equal(t, 2, left.Unsettled)
			require.Equal(t, 1, left.Unknown)
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}

func TestCloseInsideTheLoopWaitsForTheOtherDeliveries(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 50)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		seen := 0
		for d := range sub.Deliveries() {
			require.NoError(t, d.Ack())
			if seen++; seen == 7 {
				require.NoError(t, sub.Close(w.ctx))
			}
		}
		require.Equal(t, 7, seen)
		require.Equal(t, 43, w.consumer(t).Available)
	})
}

func TestAStopSendsPendingSettles(t *testing.T) {
	inEveryStop(t, func(t *testing.T, w *world, open func(sequin.SubscriberConfig) *sequin.Subscriber, stop func(*sequin.Subscriber) error) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 200)
		sub := open(sequin.SubscriberConfig{MaxInFlight: 200, Pollers: 1})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Delay: time.Second})
		for range 200 {
			require.NoError(t, next(t, sub, 2*time.Second).Ack())
		}
		require.NoError(t, stop(sub))
		require.Equal(t, uint64(200), sub.Stats().Acked)
		w.requireDone(t)
	})
}

func TestAStopSendsDelayedNacksAtOnce(t *testing.T) {
	inEveryStopOf(t, whereNacksCannotBeDelayed, func(t *testing.T, w *world, open func(sequin.SubscriberConfig) *sequin.Subscriber, stop func(*sequin.Subscriber) error) {
		_, consumer := w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 20)
		sub := open(sequin.SubscriberConfig{})
		for range 20 {
			require.NoError(t, next(t, sub, time.Second).NackAfter(25*time.Second))
		}
		// ack_wait is shortened: the leases of these deliveries are longer than the current terms.
		_, err := w.client.UpdateConsumer(w.ctx, "orders", consumer.ID, sequin.ConsumerOptions{AckWait: time.Second})
		require.NoError(t, err)
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		require.NoError(t, stop(sub))
		require.Less(t, time.Since(began), 150*time.Millisecond)
		require.Empty(t, w.consumer(t).Outstanding)
		require.Equal(t, 20, w.consumer(t).Available)
	})
}

// closeForever, closeWithin5s and endCtx are ways to stop a Subscriber while the server is unavailable.
func closeForever(_ *testing.T, sub *sequin.Subscriber, _ context.CancelFunc) error {
	return sub.Close(context.Background())
}

func closeWithin5s(_ *testing.T, sub *sequin.Subscriber, _ context.CancelFunc) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return sub.Close(ctx)
}

// endCtx requires that the Subscriber has stopped after DrainTimeout and one margin, before Close is called.
func endCtx(t *testing.T, sub *sequin.Subscriber, cancel context.CancelFunc) error {
	cancel()
	time.Sleep(10*time.Second + unavailableMargin)
	synctest.Wait()
	began := time.Now()
	defer func() { require.Equal(t, began, time.Now(), "it had stopped before") }()
	return sub.Close(context.Background())
}

// unavailableMargin is the default margin of a lease of 30 s.
const unavailableMargin = 2 * time.Second

// While the server is unavailable nothing can be returned. The stop counts the deliveries that it could not settle.
func TestAStopEndsWhileTheServerIsUnavailable(t *testing.T) {
	const messages, margin = 20, unavailableMargin
	for _, row := range []struct {
		name     string
		stop     func(*testing.T, *sequin.Subscriber, context.CancelFunc) error
		from, to time.Duration // how long it takes
		reason   error
	}{
		{"by_ctx_alone", endCtx, 10*time.Second + margin, 10*time.Second + margin, context.DeadlineExceeded},
		{"by_close_within_5s", closeWithin5s, 5*time.Second + margin, 5*time.Second + margin, context.DeadlineExceeded},
		{"by_close_without_an_end", closeForever, 26 * time.Second, 30 * time.Second, sequin.ErrLeaseExpired},
	} {
		for _, held := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s_%d_delivered", row.name, held), func(t *testing.T) {
				inBothModes(t, func(t *testing.T, w *world) {
					w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
					w.publish(t, "k", messages)
					ctx, cancel := context.WithCancel(w.ctx)
					defer cancel()
					var failed atomic.Int32
					sub, err := w.client.Subscribe(ctx, "orders", "all", sequin.SubscriberConfig{
						OnAckError: func(sequin.Delivery, error) { failed.Add(1) }})
					require.NoError(t, err)
					time.Sleep(time.Second)
					var all []sequin.Delivery
					for range held {
						all = append(all, next(t, sub, time.Second))
					}
					w.Down()
					for _, d := range all {
						require.NoError(t, d.Ack())
					}
					began := time.Now()
					var left *sequin.DrainError
					require.ErrorAs(t, row.stop(t, sub, cancel), &left)
					require.GreaterOrEqual(t, time.Since(began), row.from)
					require.LessOrEqual(t, time.Since(began), row.to)
					require.ErrorIs(t, left, row.reason)
					require.Equal(t, messages, left.Unsettled)
					require.Zero(t, left.Unknown)
					require.Equal(t, held, int(failed.Load()), "OnAckError is called for those of the program")
				})
			})
		}
	}
}

// Other tests cover receives and settles. This one covers the read of the consumer, too.
func TestNoRequestRunsOnceCloseHasReturned(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		client, running := w.counted(t)
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := subscribe(t, client, sequin.SubscriberConfig{})
		hangs := w.Fault(sequintest.Fault{Op: sequintest.GetConsumer, Delay: time.Hour})
		require.NoError(t, hangs.Wait(w.ctx, 1))
		time.Sleep(10 * time.Second)
		require.NotZero(t, running.Load())
		require.NoError(t, sub.Close(w.ctx))
		require.Zero(t, running.Load())
	})
}

func TestEveryCloseReturnsTheSame(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 20)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		next(t, sub, time.Second)
		errs := make(chan error, 8)
		var group sync.WaitGroup
		for i := range cap(errs) {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(w.ctx, time.Duration(i+1)*time.Second)
				defer cancel()
				errs <- sub.Close(ctx)
			})
		}
		began := time.Now()
		group.Wait()
		require.Equal(t, time.Second, time.Since(began), "the first ctx that ends")
		first := <-errs
		require.Error(t, first)
		for range cap(errs) - 1 {
			require.Same(t, first, <-errs)
		}
	})
}

// Close returns the deliveries that were not read, and waits for the others.
func TestAPermanentErrorStopsAsCloseDoes(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 5 * time.Minute})
		w.publish(t, "k", 20)
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 40, Pollers: 1, LeaseMargin: time.Second})
		d := next(t, sub, time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 401, Body: ownRefusal})
		for sub.Err() == nil {
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		drain(sub)
		require.ErrorIs(t, sub.Err(), sequin.ErrUnauthorized)
		require.Equal(t, 19, w.consumer(t).Available)
		require.NoError(t, d.AckSync(w.ctx))
		require.NoError(t, sub.Close(w.ctx))
		require.Empty(t, w.consumer(t).Outstanding)
	})
}
