package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAReceiveWhoseAnswerIsTooLargeIsFollowedByHalfOfIt(t *testing.T) {
	w := NewWindow(1000, 1, 1000, new(HandlingTimes))
	now := time.Now()
	require.Equal(t, 500, w.Ask(1000))
	w.Lost(now, 100, true)
	require.Equal(t, 50, w.Ask(1000))
	w.Lost(now, 80, true)
	require.Equal(t, 40, w.Ask(1000), "an answer to an earlier receive")
	w.Lost(now, 90, true)
	require.Equal(t, 40, w.Ask(1000), "one that was larger")
	w.Lost(now, 1, true)
	require.Equal(t, 1, w.Ask(1000), "never less than one")
	require.False(t, w.Small(1), "and that is not small")
	require.Equal(t, 32, w.Size(), "the window stays")
}

func TestASizeThatIsTooLargeIsTriedOnceAMinute(t *testing.T) {
	const limit = 60 // messages in the largest answer that gets through
	for name, certain := range map[string]bool{"cut": true, "refused": false} {
		w := NewWindow(1000, 1, 1000, new(HandlingTimes))
		now := time.Now()
		lost, full := 0, 0
		for began := now; now.Sub(began) < 10*time.Minute; now = now.Add(100 * time.Millisecond) {
			if ask := w.Ask(1000); ask > limit {
				lost++
				w.Lost(now, ask, certain)
			} else {
				w.Arrived(now, ask)
				if ask > limit/2 {
					full++
				}
			}
		}
		require.LessOrEqual(t, lost, 4+1+10, name) // four from 500 down, one more, and one each minute
		require.Greater(t, full, 5900, name)
	}
}

func TestAfterAnOutageTheShareGrowsAtOnce(t *testing.T) {
	w := NewWindow(1000, 1, 1000, new(HandlingTimes))
	now := time.Now()
	w.Arrived(now, 500)
	for range 20 {
		w.Lost(now, w.Ask(1000), false)
	}
	require.Equal(t, 1, w.Ask(1000))
	w.Arrived(now, 0)
	require.Equal(t, 1, w.Ask(1000), "an empty answer says nothing about sizes")
	for range 9 {
		w.Arrived(now, w.Ask(1000))
	}
	require.Equal(t, 500, w.Ask(1000))
}

func TestAWaitThatAProxyCutsIsShortened(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		wait, after time.Duration
		learned     bool
		next        time.Duration // with 5 min configured
	}{
		{20 * time.Second, 5 * time.Second, true, 3750 * time.Millisecond},
		{5 * time.Minute, time.Minute, true, 45 * time.Second},
		{time.Minute, time.Minute + 10*time.Millisecond, true, 45 * time.Second}, // the same time-out
		{20 * time.Second, 22 * time.Second, false, 5 * time.Minute},             // the server did not answer in time
		{20 * time.Second, 100 * time.Millisecond, false, 5 * time.Minute},       // an outage
		{0, 5 * time.Second, false, 5 * time.Minute},                             // a receive that does not wait
		{500 * time.Millisecond, 500 * time.Millisecond, true, 500 * time.Millisecond},
	} {
		var w Wait
		require.Equal(t, row.learned, w.Cut(now, row.wait, row.after), "%+v", row)
		require.Equal(t, row.next, w.Limit(now, 5*time.Minute), "%+v", row)
	}
}

func TestALongerWaitIsTriedEveryTenMinutes(t *testing.T) {
	var w Wait
	now := time.Now()
	require.True(t, w.Cut(now, 20*time.Second, 8*time.Second))
	require.Equal(t, 6*time.Second, w.Limit(now.Add(longerAfter-1), 20*time.Second))
	require.Equal(t, 12*time.Second, w.Limit(now.Add(longerAfter), 20*time.Second))
	require.Equal(t, 12*time.Second, w.Limit(now.Add(2*longerAfter-1), 20*time.Second))
	require.Equal(t, 20*time.Second, w.Limit(now.Add(2*longerAfter), 20*time.Second))
	require.Equal(t, 20*time.Second, w.Limit(now, 20*time.Second))
}
