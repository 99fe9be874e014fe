package sequin_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// withEachExtending runs promise with each kind of handlers, on a server that extends leases. run calls them on a goroutine
// of its own.
func withEachExtending(t *testing.T, promise func(t *testing.T, w *world, run func(*sequin.Subscriber, sequin.HandlerConfig, func(context.Context, sequin.Delivery) error) *running)) {
	t.Helper()
	for name, kind := range handlersOfOne {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				w.deadStream(t)
				promise(t, w, func(sub *sequin.Subscriber, cfg sequin.HandlerConfig, handle func(context.Context, sequin.Delivery) error) *running {
					return w.start(t, func(ctx context.Context) error { return kind(ctx, w, sub, cfg, handle) })
				})
			})
		})
	}
}

func TestAHandlerMayRunForAnHourWithALeaseOf30Seconds(t *testing.T) {
	withEachExtending(t, func(t *testing.T, w *world, run func(*sequin.Subscriber, sequin.HandlerConfig, func(context.Context, sequin.Delivery) error) *running) {
		sub := w.backlog(t, 3, 30*time.Second, sequin.SubscriberConfig{})
		var b callLog
		r := run(sub, sequin.HandlerConfig{Workers: 3, MaxHandling: 2 * time.Hour, OnError: b.failed}, func(ctx context.Context, d sequin.Delivery) error {
			b.note(d)
			began := time.Now()
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-d.Context().Done():
				return errors.New("the delivery's own context has ended")
			case <-time.After(time.Hour):
			}
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, began.Add(2*time.Hour), deadline)
			return nil
		})
		time.Sleep(time.Hour + time.Second)
		require.Equal(t, map[string]int{"k.0": 1, "k.1": 1, "k.2": 1}, b.times())
		require.Empty(t, b.reported())
		require.LessOrEqual(t, w.Count(sequintest.Extend), 3600/14+1, "one request for all that are due")
		w.requireSettled(t, "orders")
		require.NoError(t, r.stop())
		require.Zero(t, sub.Stats().OutlivedLease)
		require.Zero(t, sub.Stats().InFlight)
	})
}

func TestAHandlersCtxEndsAfterMaxHandlingWithACause(t *testing.T) {
	withEachExtending(t, func(t *testing.T, w *world, run func(*sequin.Subscriber, sequin.HandlerConfig, func(context.Context, sequin.Delivery) error) *running) {
		sub := w.backlog(t, 1, 8*time.Second, sequin.SubscriberConfig{})
		ended := make(chan time.Duration, 10)
		r := run(sub, sequin.HandlerConfig{MaxHandling: time.Minute, BackoffMax: time.Hour}, func(ctx context.Context, d sequin.Delivery) error {
			began := time.Now()
			<-ctx.Done()
			ended <- time.Since(began)
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			require.ErrorIs(t, context.Cause(ctx), sequin.ErrLeaseExpired)
			return d.Ack() // the lease lasts a little longer
		})
		require.Equal(t, time.Minute, <-ended)
		synctest.Wait()
		w.requireSettled(t, "orders")
		require.NoError(t, r.stop())
	})
}

// A server that is restarted, or another program that settles the message, ends a lease before its time.
func TestALostLeaseEndsTheHandlersCtx(t *testing.T) {
	withEachExtending(t, func(t *testing.T, w *world, run func(*sequin.Subscriber, sequin.HandlerConfig, func(context.Context, sequin.Delivery) error) *running) {
		sub := w.backlog(t, 1, 30*time.Second, sequin.SubscriberConfig{})
		var b callLog
		var took time.Duration
		r := run(sub, sequin.HandlerConfig{OnError: b.failed}, func(ctx context.Context, d sequin.Delivery) error {
			if b.note(d); b.count() > 1 {
				return nil
			}
			began := time.Now()
			time.Sleep(20 * time.Second)
			require.NoError(t, w.as(t, "another program").NackMessage(w.ctx, "orders", "all", d.AckID))
			<-ctx.Done()
			took = time.Since(began)
			require.ErrorIs(t, context.Cause(ctx), sequin.ErrLeaseExpired)
			require.ErrorIs(t, context.Cause(d.Context()), sequin.ErrLeaseExpired)
			require.ErrorIs(t, d.AckSync(w.ctx), sequin.ErrLeaseExpired)
			return ctx.Err()
		})
		time.Sleep(time.Minute)
		require.Equal(t, 2, b.count(), "the message was redelivered")
		require.NoError(t, r.stop())
		require.Equal(t, 28*time.Second, took.Truncate(time.Second), "the second extension, at half of the lease that the first has made")
		w.requireSettled(t, "orders")
		require.Zero(t, sub.Stats().InFlight)
	})
}

func TestAServerThatRefusesExtensionsEndsTheCtxWithTheLease(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		"refused":     {Status: 403, Body: ownRefusal},
		"unavailable": {Status: 503, Body: ownRefusal},
		"a proxy":     {Status: 404, Body: "<html>"},
		"no answer":   {Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				sub := w.backlog(t, 1, 30*time.Second, sequin.SubscriberConfig{})
				fault.Op = sequintest.Extend
				w.Fault(fault)
				ended := make(chan time.Time, 1)
				var deadline time.Time
				r := w.start(t, func(ctx context.Context) error {
					return sub.Handle(ctx, sequin.HandlerConfig{}, func(ctx context.Context, d sequin.Delivery) error {
						deadline = d.Deadline
						<-ctx.Done()
						require.ErrorIs(t, context.Cause(ctx), sequin.ErrLeaseExpired)
						select {
						case ended <- time.Now():
						default:
						}
						return ctx.Err()
					})
				})
				require.True(t, (<-ended).Equal(deadline))
				require.Less(t, w.Count(sequintest.Extend), 40, "requests are paced")
				_ = r.stop()
			})
		})
	}
}

// The leases of all handlers that are due share a request, and those that need none make none.
func TestExtensionsShareRequestsAndQuickHandlersMakeNone(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 300, 30*time.Second, sequin.SubscriberConfig{})
		r := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{Workers: 50}, func(_ context.Context, d sequin.Delivery) error {
				time.Sleep(time.Second)
				return nil
			})
		})
		time.Sleep(20 * time.Second)
		require.Zero(t, w.Count(sequintest.Extend))
		w.requireSettled(t, "orders")
		require.NoError(t, r.stop())
	})
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 50, 30*time.Second, sequin.SubscriberConfig{Pollers: 1})
		r := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{Workers: 50}, func(context.Context, sequin.Delivery) error {
				time.Sleep(20 * time.Second)
				return nil
			})
		})
		time.Sleep(30 * time.Second)
		require.LessOrEqual(t, w.Count(sequintest.Extend), 6)
		w.requireSettled(t, "orders")
		require.NoError(t, r.stop())
	})
}

// A batch keeps all of its leases. What its handler has settled does not end its ctx.
func TestABatchKeepsTheLeasesThatItHasNotSettled(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 20, 30*time.Second, sequin.SubscriberConfig{})
		var b callLog
		r := w.start(t, func(ctx context.Context) error {
			cfg := sequin.BatchHandlerConfig{Size: 20, MaxHandling: time.Hour, OnError: b.failed}
			return sub.HandleBatch(ctx, cfg, func(ctx context.Context, batch []sequin.Delivery) error {
				for _, d := range batch {
					b.note(d)
				}
				require.NoError(t, batch[0].AckSync(ctx))
				slices.Reverse(batch) // the slice is the handler's
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Minute):
				}
				return ctx.Err()
			})
		})
		time.Sleep(11 * time.Minute)
		require.Equal(t, 20, b.count())
		require.Empty(t, b.reported())
		w.requireSettled(t, "orders")
		require.NoError(t, r.stop())
	})
}

// A stop gives running handlers all of DrainTimeout, or of the ctx of Close, whatever their leases are.
func TestAStopWaitsForHandlersWhoseLeasesAreExtended(t *testing.T) {
	withEachExtending(t, func(t *testing.T, w *world, run func(*sequin.Subscriber, sequin.HandlerConfig, func(context.Context, sequin.Delivery) error) *running) {
		sub := w.backlog(t, 1, 4*time.Second, sequin.SubscriberConfig{})
		r := run(sub, sequin.HandlerConfig{}, func(ctx context.Context, _ sequin.Delivery) error {
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Minute):
			}
			return ctx.Err()
		})
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Minute)
		defer cancel()
		require.NoError(t, sub.Close(ctx))
		require.NoError(t, r.wait())
		w.requireSettled(t, "orders")
	})
}

func TestAHandlersCtxHasTheValuesOfHandlesAndStartsNoGoroutine(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		w.publish(t, "k", 1)
		outer := context.WithValue(context.WithValue(w.ctx, valueKey("both"), "Subscribe"), valueKey("outer"), "Subscribe")
		sub, err := w.client.Subscribe(outer, "orders", "all", sequin.SubscriberConfig{DrainTimeout: 20 * time.Second})
		require.NoError(t, err)
		var seen, child context.Context
		ctx, cancel := context.WithCancel(context.WithValue(w.ctx, valueKey("both"), "Handle"))
		err = sub.Handle(ctx, sequin.HandlerConfig{}, func(ctx context.Context, d sequin.Delivery) error {
			seen = ctx
			require.Equal(t, "Handle", ctx.Value(valueKey("both")))
			require.Equal(t, "Subscribe", ctx.Value(valueKey("outer")))
			before := propagating()
			var done context.CancelFunc
			child, done = context.WithTimeout(ctx, 5*time.Minute)
			defer done()
			require.Equal(t, before, propagating(), "a context made from it starts no goroutine")
			deadline, _ := child.Deadline()
			require.Equal(t, 5*time.Minute, time.Until(deadline), "the Deadline of the lease does not count")
			cancel() // this does not end the handler's ctx at once
			time.Sleep(12 * time.Second)
			require.NoError(t, child.Err())
			<-ctx.Done()
			require.ErrorIs(t, child.Err(), context.Canceled)
			require.NotErrorIs(t, context.Cause(ctx), sequin.ErrLeaseExpired, "DrainTimeout has ended it")
			return nil
		})
		require.NoError(t, err, "a stop gives it a second more")
		require.ErrorIs(t, seen.Err(), context.Canceled)
	})
}

// propagating returns the number of goroutines with which package context passes on the end of a context of another type.
func propagating() int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("created by context.(*cancelCtx).propagateCancel"))
}

func TestAHandlersCtxEndsWhenItReturns(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 2, 30*time.Second, sequin.SubscriberConfig{})
		used, unused := make(chan context.Context, 1), make(chan context.Context, 1)
		r := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{}, func(ctx context.Context, d sequin.Delivery) error {
				if d.Key == "k.0" {
					_ = ctx.Done()
					used <- ctx
				} else {
					unused <- ctx
				}
				return nil
			})
		})
		for _, ctx := range []context.Context{<-used, <-unused} {
			synctest.Wait()
			<-ctx.Done()
			require.Equal(t, context.Canceled, ctx.Err())
			require.Equal(t, context.Canceled, context.Cause(ctx))
		}
		require.NoError(t, r.stop())
	})
}

func TestTheLossOfALeaseIsLogged(t *testing.T) {
	logged(t, func(t *testing.T, w *world, log *logs) {
		sub := w.backlog(t, 1, 30*time.Second, sequin.SubscriberConfig{})
		r := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{}, func(ctx context.Context, d sequin.Delivery) error {
				require.NoError(t, w.client.AckMessage(w.ctx, "orders", "all", d.AckID))
				<-ctx.Done()
				return nil
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, r.stop())
		require.Regexp(t, `level=WARN msg=".*whose lease the server has ended.* key=k\.0 running_for=14\.`, log.String())
	})
}

func TestMaxHandlingIsChecked(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 0, 30*time.Second, sequin.SubscriberConfig{})
		err := sub.Handle(w.ctx, sequin.HandlerConfig{MaxHandling: -1}, func(context.Context, sequin.Delivery) error { return nil })
		require.ErrorIs(t, err, sequin.ErrInvalidConfig)
		require.ErrorContains(t, err, "MaxHandling is -1ns, must be more than 0")
		err = sub.HandleBatch(w.ctx, sequin.BatchHandlerConfig{MaxHandling: -1}, func(context.Context, []sequin.Delivery) error { return nil })
		require.ErrorIs(t, err, sequin.ErrInvalidConfig)
		closeNow(t, sub)
	})
}
