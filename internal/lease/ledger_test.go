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

// ledger is a Ledger whose notes and nacks are names.
type ledger = Ledger[string, string]

func newLedger(maxInFlight int) *ledger { return NewLedger[string, string](maxInFlight) }

// leased returns a lease that begins after the given time, lasts 8 s, and leaves a settle 2 s to reach the server.
func leased(after time.Duration) *Lease {
	began := time.Now().Add(after)
	return New(began, 0, began, NewTerms(8*time.Second, 0), NewTerms(8*time.Second, 0), context.Background())
}

// settlesOf yields leases of deliveries that have none of their own.
func settlesOf(leases ...*Lease) iter.Seq2[*Lease, *Held] {
	return func(yield func(*Lease, *Held) bool) {
		for _, l := range leases {
			if !yield(l, nil) {
				return
			}
		}
	}
}

func inFlight(g *ledger) int {
	n, _ := g.InFlight()
	return n
}

func TestBytesAreCountedWithTheirMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newLedger(10)
		a, b := leased(0), leased(time.Second)
		g.Add(a, 3, 100, "a")
		g.Add(b, 2, 1000, "b")
		require.Equal(t, 1100, g.Bytes())
		g.Settled(settlesOf(b), true)
		require.Equal(t, 600, g.Bytes())
		g.Settled(settlesOf(b), false)
		require.Equal(t, 600, g.Bytes(), "the server may still count it as leased")
		g.Settled(settlesOf(a), true)
		require.Equal(t, 567, g.Bytes(), "a third of 100 is 33")
		g.Settled(settlesOf(a, a), true)
		require.Equal(t, 500, g.Bytes(), "nothing is left of the account")

		to, lost := leased(time.Minute), leased(0)
		g.Add(lost, 2, 300, "lost")
		h := NewHeld("id", new(atomic.Bool), lost)
		require.True(t, g.Extend(h, to))
		require.Equal(t, 800, g.Bytes(), "an extension moves them")
		require.True(t, g.Lose(h, time.Now()))
		require.Equal(t, 650, g.Bytes())

		time.Sleep(time.Hour)
		g.Expire(time.Now())
		require.Zero(t, g.Bytes())
	})
}

func TestOnlyAConfirmedSettleFreesRoomBeforeTheLeaseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newLedger(10)
		a, b := leased(0), leased(time.Second)
		g.Add(a, 3, 0, "a")
		g.Add(b, 2, 0, "b")
		require.Equal(t, 5, inFlight(g))
		require.Equal(t, 5, g.Room(10))

		g.Settled(settlesOf(a, b, b, a), true)
		require.Equal(t, 1, inFlight(g))
		g.Settled(settlesOf(a), false)
		require.Equal(t, 1, inFlight(g), "the server may still count it as leased")
		open, _ := g.Open(time.Now())
		require.Zero(t, open)

		time.Sleep(8*time.Second - time.Nanosecond)
		unsettled, next := g.Expire(time.Now())
		require.Empty(t, unsettled)
		require.Equal(t, a.Until, next)
		time.Sleep(time.Nanosecond)
		unsettled, next = g.Expire(time.Now())
		require.Empty(t, unsettled, "its settle has ended")
		require.Zero(t, next)
		require.Zero(t, inFlight(g))
		g.Settled(settlesOf(a, a, b), true)
		require.Zero(t, inFlight(g), "a settle that ends after its lease frees no room again")
	})
}

func TestExpireReturnsTheLeasesThatHadOpenMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newLedger(10)
		for i, name := range []string{"third", "first", "second"} {
			g.Add(leased([]time.Duration{2 * time.Second, 0, time.Second}[i]), 1, 0, name)
		}
		open, next := g.Open(time.Now())
		require.Equal(t, 3, open)
		require.Equal(t, 6*time.Second, time.Until(next), "the first deadline")
		time.Sleep(9 * time.Second)
		open, _ = g.Open(time.Now())
		require.Zero(t, open, "the deadlines have passed")
		unsettled, next := g.Expire(time.Now())
		require.Equal(t, []string{"first", "second"}, unsettled)
		require.Equal(t, time.Second, time.Until(next))
		require.Equal(t, 1, inFlight(g))
	})
}

func TestADelayedNackIsDueAtItsTimeOrHalfAMarginBeforeItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l, now := newLedger(100), leased(0), time.Now()
		for _, row := range []struct {
			name  string
			delay time.Duration
		}{{"soon", time.Second}, {"late", time.Hour}, {"sooner", time.Millisecond}, {"as soon", time.Second}} {
			require.True(t, g.Delay(l, row.name, now.Add(row.delay)))
		}
		require.False(t, g.Delay(l, "now", now), "it is to be sent now")
		due := func() (names []string) {
			all, _ := g.Due(time.Now())
			for _, d := range all {
				names = append(names, d.Item)
			}
			return names
		}
		require.Empty(t, due())
		time.Sleep(time.Millisecond)
		require.Equal(t, []string{"sooner"}, due())
		time.Sleep(time.Second)
		require.ElementsMatch(t, []string{"soon", "as soon"}, due())
		_, next := g.Due(time.Now())
		require.Equal(t, 5*time.Second, next.Sub(now), "a lease of 8 s, less a margin of 2 s, less half of that")
		require.False(t, g.Delay(leased(-6*time.Second), "too late", time.Now().Add(time.Second)))
	})
}

func TestDelayedNacksAndDeadLettersShareHalfOfTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l, now := newLedger(6), leased(0), time.Now()
		g.Add(l, 4, 0, "all")
		for _, seconds := range []int{3, 1, 2} {
			require.False(t, g.PlacesTaken())
			require.True(t, g.Delay(l, "", now.Add(time.Duration(seconds)*time.Second)))
		}
		require.True(t, g.PlacesTaken())
		require.Equal(t, 2, g.Room(3), "delayed nacks count towards MaxInFlight, which is six, and not towards the window of three")
		due, _ := g.Due(now)
		require.Empty(t, due)

		require.True(t, g.TakePlace(), "the nack that is due first gives up its place")
		due, next := g.Due(now)
		require.Len(t, due, 1)
		require.Equal(t, now.Add(2*time.Second), next)
		require.True(t, g.TakePlace())
		require.True(t, g.TakePlace())
		require.False(t, g.TakePlace(), "dead letters have all the places")
		g.FreePlace()
		require.True(t, g.TakePlace())
	})
}

func TestAReleasedLedgerDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := newLedger(10), leased(0)
		require.True(t, g.Delay(l, "kept", time.Now().Add(time.Second)))
		require.False(t, g.Stopping())
		g.Stop()
		require.True(t, g.Stopping())
		later := time.Now().Add(2 * time.Second)
		require.True(t, g.Delay(l, "kept too", later), "a stop delays nacks until it has cancelled its receives")
		require.Equal(t, []Delayed[string]{{"kept", time.Now().Add(time.Second)}, {"kept too", later}}, g.Release())
		require.False(t, g.Delay(l, "refused", time.Now().Add(time.Second)))
		require.Empty(t, g.Release())
	})
}

func TestUnsentKeepsTheFirstCause(t *testing.T) {
	g, first := newLedger(10), errors.New("first")
	require.Zero(t, g.Unsent())
	g.NoteUnsent(2, false, first)
	g.NoteUnsent(3, true, errors.New("second"))
	require.Equal(t, Unsent{Unsettled: 2, Unknown: 3, Cause: first}, g.Unsent())
}

func TestAccountsStayInTheOrderInWhichLeasesEnd(t *testing.T) {
	began := time.Now()
	list := newLedger(100).accounts
	all := map[int]*account[string]{}
	for _, second := range []int{5, 1, 9, 5, 3, 9, 0, 7} {
		a := &account[string]{lease: leased(time.Duration(second) * time.Second)}
		list.add(a)
		all[second] = a
	}
	order := func() (seconds []int) {
		var before *account[string]
		for a := list.first; a != nil; a = a.next {
			require.Same(t, before, a.prev)
			seconds, before = append(seconds, int(a.lease.Began.Sub(began).Round(time.Second)/time.Second)), a
		}
		require.Same(t, before, list.last)
		require.Len(t, list.byLease, len(seconds))
		return seconds
	}
	require.Equal(t, []int{0, 1, 3, 5, 5, 7, 9, 9}, order())
	for _, removed := range []struct {
		second int
		left   []int
	}{{0, []int{1, 3, 5, 5, 7, 9, 9}}, {9, []int{1, 3, 5, 5, 7, 9}}, {3, []int{1, 5, 5, 7, 9}}} {
		a := all[removed.second]
		list.remove(a)
		require.Nil(t, a.prev)
		require.Nil(t, a.next)
		require.Equal(t, removed.left, order())
	}
}
