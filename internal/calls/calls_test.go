package calls

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/lease"
)

var errOver = errors.New("over")

// delivery is a Delivery whose lease ends for the program 6 s after it was made.
type delivery struct {
	held    *lease.Held
	settled atomic.Bool
	fixed   bool
}

func newDelivery(ctx context.Context) *delivery {
	terms := lease.NewTerms(8*time.Second, 0)
	d := new(delivery)
	d.held = lease.NewHeld("id", &d.settled, lease.New(time.Now(), 0, time.Now(), terms, terms, ctx))
	return d
}

func (d *delivery) Lease() *lease.Lease     { return d.held.Lease() }
func (d *delivery) IsSettled() bool         { return d.settled.Load() }
func (d *delivery) Extends() bool           { return !d.fixed }
func (d *delivery) Hold(string) *lease.Held { return d.held }

// begin makes a worker serve a call that may take the given time.
func begin(ctx context.Context, w *Worker, may time.Duration, all ...*delivery) context.Context {
	first := all[0].Lease().Deadline
	for i, d := range all {
		w.Call().Add(Item{Key: string(rune('a' + i)), Delivery: d})
	}
	work := w.Call().Extendable(ctx, context.WithoutCancel(ctx), time.Now().Add(may), first)
	w.Begin()
	return work
}

// keep calls Keep and returns how long from now it is due again, and the extended deliveries.
func keep(w *Worker, early bool) (next time.Duration, extended []*lease.Held, lost string) {
	w.Inspect(func(c *Call) {
		var at time.Time
		at, lost = c.Keep(time.Now(), early, func(h *lease.Held) { extended = append(extended, h) }, errOver)
		next = time.Until(at)
		if at.IsZero() {
			next = 0
		}
	})
	return next, extended, lost
}

func TestKeepExtendsTheLeasesThatAreHalfOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Worker
		open, settled := newDelivery(t.Context()), newDelivery(t.Context())
		settled.settled.Store(true)
		ctx := begin(t.Context(), &w, time.Hour, open, settled)
		next, extended, _ := keep(&w, false)
		require.Empty(t, extended)
		require.Equal(t, 3*time.Second, next)
		time.Sleep(2 * time.Second)
		_, extended, _ = keep(&w, true)
		require.Equal(t, []*lease.Held{open.held}, extended, "early, after a quarter")
		time.Sleep(time.Second)
		next, extended, _ = keep(&w, false)
		require.Equal(t, []*lease.Held{open.held}, extended)
		require.Equal(t, 3*time.Second, next, "its end")
		require.NoError(t, ctx.Err())
		w.End()
		_, extended, _ = keep(&w, false)
		require.Empty(t, extended, "the call has ended")
	})
}

func TestKeepEndsTheContextWithTheFirstLeaseThatIsNotSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Worker
		first := newDelivery(t.Context())
		first.fixed = true
		time.Sleep(time.Second)
		second := newDelivery(t.Context())
		ctx := begin(t.Context(), &w, time.Hour, first, second)
		time.Sleep(5 * time.Second)
		next, extended, lost := keep(&w, false)
		require.Zero(t, next)
		require.Empty(t, extended)
		require.Empty(t, lost, "it has ended at its time")
		require.ErrorIs(t, context.Cause(ctx), errOver)
	})
}

func TestKeepTellsALostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Worker
		d := newDelivery(t.Context())
		ledger := lease.NewLedger[string, string](10)
		ledger.Add(d.Lease(), 1, 0, "")
		ctx := begin(t.Context(), &w, time.Hour, d)
		ledger.Lose(d.held, time.Now())
		_, _, lost := keep(&w, false)
		require.Equal(t, "a", lost)
		require.ErrorIs(t, context.Cause(ctx), errOver)
	})
}

func TestACallLastsUntilItsTimeOrItsFirstLeaseWhicheverIsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, row := range []struct{ may, until time.Duration }{{time.Second, 6 * time.Second}, {5 * time.Second, 6 * time.Second}, {7 * time.Second, 7 * time.Second}} {
			var w Worker
			d := newDelivery(t.Context())
			ctx := begin(t.Context(), &w, row.may, d)
			deadline, _ := ctx.Deadline()
			require.Equal(t, row.until, time.Until(deadline))
			time.Sleep(3 * time.Second)
			_, extended, _ := keep(&w, false)
			require.Equal(t, row.may > 4*time.Second, len(extended) == 1, "so that a margin is left for the settle")
		}
	})
}

func TestOverdueNamesACallOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Worker
		begin(t.Context(), &w, time.Hour, newDelivery(t.Context()))
		overdue := func() (ok bool) {
			w.Inspect(func(c *Call) { _, ok = c.Overdue(time.Now()) })
			return ok
		}
		require.False(t, overdue())
		time.Sleep(6 * time.Second)
		require.True(t, overdue())
		require.False(t, overdue())
		require.True(t, w.Serves())
		w.End()
		require.False(t, w.Serves())
	})
}
