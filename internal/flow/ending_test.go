package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAReceiveIsAskedToEndFiveTimesInWhatAStopWaits(t *testing.T) {
	var e Ending
	began := time.Unix(0, 0)
	var asked []time.Duration
	for now := began; now.Before(began.Add(AskFor)); {
		ask, next := e.Ask(now, true)
		if !ask {
			now = next
			continue
		}
		asked = append(asked, now.Sub(began))
		again, never := e.Ask(now, true)
		require.False(t, again, "one request at a time")
		require.True(t, never.IsZero())
		require.True(t, e.HoldsUp(now, began, true))
		e.Answered(now, false)
	}
	ms := time.Millisecond
	require.Equal(t, []time.Duration{0, 5 * ms, 15 * ms, 35 * ms, 75 * ms}, asked)
	ask, next := e.Ask(began.Add(time.Hour), false)
	require.False(t, ask, "it is being answered")
	require.True(t, next.IsZero())
}

func TestWhenAReceiveHoldsUpAStopAndWhenItIsCancelled(t *testing.T) {
	started := time.Unix(0, 0)
	began := started.Add(40 * time.Millisecond) // the stop
	after := func(at time.Time, d time.Duration) time.Time { return at.Add(d) }
	for _, row := range []struct {
		name        string
		state       func(*Ending)
		waits       bool
		holdsFrom   time.Duration // after the beginning of the receive; -1 for never
		holdsTo     time.Duration // the same; 0 for ever
		mayRunUntil time.Time
	}{
		{"not asked", func(*Ending) {}, true, 100 * time.Millisecond, 0, after(started, 100*time.Millisecond)},
		{"not asked, is being answered", func(*Ending) {}, false, -1, 0, after(began, 2*time.Second)},
		{"ends", func(e *Ending) { e.Ask(began, true); e.Answered(began, true) }, true, 0, 140 * time.Millisecond, after(began, 2*time.Second)},
		{"unknown", func(e *Ending) { e.Ask(began, true); e.Answered(began, false) }, true, 0, 0, after(began, 100*time.Millisecond)},
		{"unknown, is being answered", func(e *Ending) { e.Ask(began, true); e.Answered(began, false) }, false, -1, 0, after(began, 2*time.Second)},
	} {
		t.Run(row.name, func(t *testing.T) {
			var e Ending
			row.state(&e)
			for d := time.Duration(0); d < time.Second; d += 10 * time.Millisecond {
				want := row.holdsFrom >= 0 && d >= row.holdsFrom && (row.holdsTo == 0 || d < row.holdsTo)
				require.Equal(t, want, e.HoldsUp(started.Add(d), started, row.waits), "after %v", d)
			}
			require.Equal(t, row.mayRunUntil, e.MayRunUntil(began, started, row.waits))
		})
	}
}
