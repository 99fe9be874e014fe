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

func TestAnExtendedDeliveryCanBeSettledLater(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 10*time.Second, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		ctx := d.Context()
		for range 3 {
			time.Sleep(7 * time.Second)
			require.NoError(t, d.Extend(w.ctx, 10*time.Second))
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, 8*time.Second, time.Until(deadline))
		}
		time.Sleep(time.Until(d.Deadline) + 21*time.Second - 1)
		require.NoError(t, ctx.Err())
		require.Equal(t, 1, sub.Stats().InFlight)
		require.NoError(t, d.AckSync(w.ctx))
		require.Zero(t, sub.Stats().InFlight)
		require.ErrorIs(t, ctx.Err(), context.Canceled, "the delivery is settled")
		require.ErrorIs(t, d.Extend(w.ctx, time.Minute), sequin.ErrSettled)
		w.requireSettled(t, "orders")
		closeNow(t, sub)
	})
}

func TestTheContextOfAnExtendedDeliveryEndsWithTheExtension(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 10*time.Second, sequin.SubscriberConfig{})
		d, began := next(t, sub, time.Second), time.Now()
		require.NoError(t, d.Extend(w.ctx, time.Minute))
		require.NoError(t, d.Extend(w.ctx, time.Second), "which does not shorten it")
		ctx, cancel := context.WithCancel(d.Context())
		defer cancel()
		<-ctx.Done()
		require.Equal(t, 58*time.Second, time.Since(began))
		require.ErrorIs(t, context.Cause(ctx), sequin.ErrLeaseExpired)
		require.ErrorIs(t, d.Context().Err(), context.DeadlineExceeded)
		require.ErrorIs(t, d.Ack(), sequin.ErrLeaseExpired)
		require.ErrorIs(t, d.Extend(w.ctx, time.Minute), sequin.ErrLeaseExpired)
		require.Zero(t, w.Count(sequintest.Ack))
		require.NoError(t, next(t, sub, 10*time.Second).AckSync(w.ctx))
		closeNow(t, sub)
	})
}

func TestExtendTellsThatTheServerHasLostTheLease(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 2, time.Minute, sequin.SubscriberConfig{})
		lost, kept := next(t, sub, time.Second), next(t, sub, time.Second)
		ctx := lost.Context()
		require.NoError(t, w.as(t, "another program").AckMessage(w.ctx, "orders", "all", lost.AckID))
		require.ErrorIs(t, lost.Extend(w.ctx, time.Minute), sequin.ErrLeaseExpired)
		require.ErrorIs(t, context.Cause(ctx), sequin.ErrLeaseExpired)
		require.Equal(t, 1, sub.Stats().InFlight, "it takes no room any more")
		require.ErrorIs(t, lost.Ack(), sequin.ErrLeaseExpired)
		require.NoError(t, kept.Extend(w.ctx, time.Minute))
		require.NoError(t, kept.AckSync(w.ctx))
		closeNow(t, sub)
	})
}

func TestALostAnswerToAnExtensionIsRepeated(t *testing.T) {
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				sub := w.backlog(t, 1, 10*time.Second, sequin.SubscriberConfig{})
				d := next(t, sub, time.Second)
				loss.Op, loss.Count = sequintest.Extend, 2
				w.Fault(loss)
				require.NoError(t, d.Extend(w.ctx, time.Minute))
				require.Equal(t, 3, w.Count(sequintest.Extend))
				time.Sleep(50 * time.Second)
				require.NoError(t, d.AckSync(w.ctx))
				closeNow(t, sub)
			})
		})
	}
}

func TestExtendReturnsARefusalAndTheEndOfItsCtx(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 10*time.Second, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		refused := w.Fault(sequintest.Fault{Op: sequintest.Extend, Status: 403, Body: ownRefusal})
		require.ErrorIs(t, d.Extend(w.ctx, time.Minute), sequin.ErrUnauthorized)
		refused.Remove()
		w.Fault(sequintest.Fault{Op: sequintest.Extend, Status: 503, Body: ownRefusal})
		short, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		require.ErrorIs(t, d.Extend(short, time.Minute), context.DeadlineExceeded)
		require.ErrorIs(t, d.Extend(w.ctx, time.Minute), sequin.ErrLeaseExpired, "it was repeated until then")
		require.Less(t, time.Since(d.Deadline), time.Second)
		require.NoError(t, next(t, sub, 10*time.Second).AckSync(w.ctx))
		closeNow(t, sub)
	})
}

func TestExtendIsRefusedWhereLeasesCannotBeExtended(t *testing.T) {
	refused := func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 10*time.Second, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		require.ErrorIs(t, d.Extend(w.ctx, time.Minute), sequin.ErrUnsupported)
		require.ErrorContains(t, d.Extend(w.ctx, time.Minute), `"extend"`)
		require.Zero(t, w.Count(sequintest.Extend))
		require.NoError(t, d.AckSync(w.ctx))
		closeNow(t, sub)
	}
	t.Run("switched off", func(t *testing.T) { inDocumentedWithout(t, []string{"extend"}, refused) })
	t.Run("2024", func(t *testing.T) { inMode(t, server.Aug2024, refused) })
}

func TestWithoutExtendAHandlersCtxEndsAtItsDeadline(t *testing.T) {
	ends := func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 10*time.Second, sequin.SubscriberConfig{})
		over := make(chan bool, 1)
		r := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{}, func(ctx context.Context, d sequin.Delivery) error {
				deadline, ok := ctx.Deadline()
				require.True(t, ok && deadline.Equal(d.Deadline))
				<-ctx.Done()
				select {
				case over <- time.Now().Equal(d.Deadline):
				default:
				}
				return ctx.Err()
			})
		})
		require.True(t, <-over)
		require.Zero(t, w.Count(sequintest.Extend))
		_ = r.stop()
	}
	t.Run("switched off", func(t *testing.T) { inDocumentedWithout(t, []string{"extend"}, ends) })
	t.Run("2024", func(t *testing.T) { inMode(t, server.Aug2024, ends) })
}

func TestExtendChecksItsTime(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, 10*time.Second, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		for _, wait := range []time.Duration{0, -1, time.Millisecond - 1, sequin.MaxExtension + 1} {
			require.ErrorIs(t, d.Extend(w.ctx, wait), sequin.ErrInvalidArgument, wait)
		}
		require.NoError(t, d.AckSync(w.ctx))
		closeNow(t, sub)
		require.ErrorIs(t, sequin.Delivery{}.Extend(w.ctx, time.Second), sequin.ErrNotDelivered)
	})
}

// A program that asks for the context of each delivery keeps nothing of those that it has settled.
func TestContextsOfSettledDeliveriesEnd(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 100, time.Minute, sequin.SubscriberConfig{})
		var all []context.Context
		for range 100 {
			d := next(t, sub, time.Second)
			all = append(all, d.Context())
			require.Same(t, d.Context(), d.Context())
			require.NoError(t, d.Ack())
		}
		synctest.Wait()
		for _, ctx := range all {
			require.ErrorIs(t, ctx.Err(), context.Canceled)
		}
		closeNow(t, sub)
	})
}

// MaxInFlight counts what the server counts as leased: a delivery whose lease was extended is in flight until that lease ends.
func TestAnExtendedDeliveryIsInFlightUntilItsLeaseEnds(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 5, 10*time.Second, sequin.SubscriberConfig{MaxInFlight: 1})
		d := next(t, sub, time.Second)
		require.NoError(t, d.Extend(w.ctx, time.Hour))
		time.Sleep(59 * time.Minute)
		require.Equal(t, 1, sub.Stats().InFlight)
		require.Equal(t, uint64(1), sub.Stats().Received)
		time.Sleep(time.Minute)
		again := next(t, sub, time.Second)
		require.Equal(t, d.Key, again.Key)
		require.NoError(t, again.AckSync(w.ctx))
		closeNow(t, sub)
	})
}

func TestAfterAStopNothingIsExtended(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		require.Error(t, sub.Close(endedCtx()), "it is not settled")
		require.ErrorIs(t, d.Extend(t.Context(), time.Minute), sequin.ErrClosed)
	})
}
