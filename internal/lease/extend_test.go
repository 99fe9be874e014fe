package lease

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var errOver = errors.New("over")

func heldOf(l *Lease) *Held { return NewHeld("id", new(atomic.Bool), l) }

// settled yields the current lease of a delivery that has one of its own.
func settled(h *Held) iter.Seq2[*Lease, *Held] {
	return func(yield func(*Lease, *Held) bool) { yield(h.Lease(), h) }
}

func TestAnExtendedMessageTakesRoomUntilItsNewLeaseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, first := newLedger(10), leased(0)
		g.Add(first, 3, 0, "note")
		a, b := heldOf(first), heldOf(first)
		later := leased(5 * time.Second)
		require.True(t, g.Extend(a, later))
		require.True(t, g.Extend(b, later))
		require.Same(t, later, a.Lease())
		require.True(t, g.Extend(a, first), "no change")
		require.Same(t, later, a.Lease(), "an extension never shortens")
		require.Equal(t, 3, inFlight(g))

		time.Sleep(8 * time.Second)
		unsettled, next := g.Expire(time.Now())
		require.Equal(t, []string{"note"}, unsettled)
		require.Equal(t, later.Until, next)
		require.Equal(t, 2, inFlight(g))
		g.Settled(settled(a), true)
		require.Equal(t, 1, inFlight(g))
		g.Settled(settled(a), true)
		require.Equal(t, 1, inFlight(g), "once")
		require.False(t, g.Extend(a, leased(time.Hour)), "it is settled")
		time.Sleep(5 * time.Second)
		unsettled, _ = g.Expire(time.Now())
		require.Equal(t, []string{"note"}, unsettled)
		require.Zero(t, inFlight(g))
		require.False(t, g.Extend(b, leased(time.Hour)), "its lease is over")
	})
}

func TestALostLeaseIsOverAndFreesItsRoomOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := newLedger(10), leased(0)
		g.Add(l, 2, 0, "")
		h := heldOf(l)
		require.True(t, g.Lose(h, time.Now()))
		require.False(t, g.Lose(h, time.Now()))
		require.True(t, h.Lost())
		require.True(t, Past(time.Now(), h.Lease().Deadline))
		require.Equal(t, 1, inFlight(g))
		open, _ := g.Open(time.Now())
		require.Equal(t, 1, open)
		g.Settled(settled(h), false)
		g.Settled(settled(h), true)
		require.Equal(t, 1, inFlight(g))
		require.False(t, g.Hold(h))
	})
}

func TestOverdueReturnsEachHeldDeliveryOnceAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := newLedger(10), leased(0)
		g.Add(l, 4, 0, "")
		over, next := g.Overdue(time.Now())
		require.Empty(t, over)
		require.Zero(t, next)
		plain, extended, done, lost := heldOf(l), heldOf(l), heldOf(l), heldOf(l)
		for _, h := range []*Held{plain, extended, done, lost} {
			require.True(t, g.Hold(h))
		}
		later := leased(3 * time.Second)
		g.Extend(extended, later)
		g.Settled(settled(done), false)
		g.Lose(lost, time.Now())
		over, next = g.Overdue(time.Now())
		require.Empty(t, over)
		require.Equal(t, l.Deadline, next)
		time.Sleep(6 * time.Second)
		over, next = g.Overdue(time.Now())
		require.Equal(t, []*Held{plain}, over)
		require.Equal(t, later.Deadline, next)
		time.Sleep(3 * time.Second)
		over, next = g.Overdue(time.Now())
		require.Equal(t, []*Held{extended}, over)
		require.Zero(t, next)
		require.False(t, g.Hold(extended), "its lease is over")
		require.Zero(t, g.accounts.holding)
	})
}

func TestNextHalfIsHalfOfALeaseAndThenOftenEnoughForALateDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := newLedger(10), leased(0) // 6 s for the program
		require.Zero(t, g.NextHalf(time.Now()))
		g.Add(l, 1, 0, "")
		g.Add(leased(time.Second), 1, 0, "")
		require.Equal(t, 3*time.Second, time.Until(g.NextHalf(time.Now())))
		time.Sleep(3 * time.Second)
		require.Equal(t, time.Second, time.Until(g.NextHalf(time.Now())), "half of the margin")
		time.Sleep(3 * time.Second)
		g.Settled(settlesOf(l), true)
		require.Equal(t, time.Second, time.Until(g.NextHalf(time.Now())), "of the other")
		time.Sleep(time.Second)
		require.Zero(t, g.NextHalf(time.Now()), "its deadline has passed")
	})
}

func TestWorkEndsOnceWithItsCause(t *testing.T) {
	type key string
	parent, stop := context.WithCancel(context.WithValue(t.Context(), key("outer"), 1))
	values := context.WithoutCancel(context.WithValue(t.Context(), key("inner"), 2))
	for _, used := range []bool{false, true} {
		for _, row := range []struct {
			cause, err, is error
		}{{errOver, context.DeadlineExceeded, errOver}, {nil, context.Canceled, context.Canceled}} {
			w := NewWork(parent, values, time.Time{}.Add(time.Hour))
			var child context.Context = w
			if used {
				var cancel context.CancelFunc
				child, cancel = context.WithCancel(w)
				defer cancel()
				require.NoError(t, child.Err())
			}
			require.NoError(t, w.Err())
			require.Nil(t, context.Cause(w))
			require.False(t, w.Ended())
			require.Equal(t, []any{1, 2, nil}, []any{w.Value(key("outer")), w.Value(key("inner")), w.Value(key("none"))})
			w.End(row.cause)
			w.End(errors.New("later"))
			require.True(t, w.Ended())
			<-w.Done()
			<-child.Done()
			require.Equal(t, row.err, w.Err())
			require.ErrorIs(t, context.Cause(w), row.is)
			require.ErrorIs(t, context.Cause(child), row.is)
			require.Equal(t, 2, w.Value(key("inner")))
		}
	}
	w := NewWork(parent, nil, time.Time{}.Add(time.Hour))
	idle := NewWork(parent, nil, time.Time{}.Add(time.Hour))
	done := w.Done()
	stop()
	<-done
	require.Equal(t, []error{context.Canceled, context.Canceled}, []error{w.Err(), idle.Err()})
	<-idle.Done()
}

func TestTheWorkOfAHeldHasItsDeadlineAndIsMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := newLedger(10), leased(0)
		g.Add(l, 1, 0, "")
		h := heldOf(l)
		h.EndWork(errOver) // there is none
		w, made := h.Work()
		require.True(t, made)
		again, made := h.Work()
		require.False(t, made)
		require.Same(t, w, again)
		g.Extend(h, leased(time.Hour))
		deadline, ok := w.Deadline()
		require.True(t, ok)
		require.Equal(t, h.Lease().Deadline, deadline)
		h.EndWork(errOver)
		require.ErrorIs(t, context.Cause(w), errOver)
	})
}

// A handler that does not use its context pays for one allocation.
func TestWorkThatIsNotUsedAllocatesOnce(t *testing.T) {
	parent, until := t.Context(), time.Now()
	var kept context.Context
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		w := NewWork(parent, parent, until)
		kept = w
		w.End(nil)
	}), 1.0)
	require.Error(t, kept.Err())
}
