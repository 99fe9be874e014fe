package sequin

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// delivered makes a delivery whose lease comes near its end at near.
func delivered(near time.Time) Delivery {
	return Delivery{state: &deliveryState{lease: &lease{near: near}}}
}

// slowed is a throttle that has just come on, at the time zero, with a pace of 1 to 4 s.
func slowed(t *testing.T) (*throttle, time.Time) {
	t.Helper()
	th, zero := &throttle{}, time.Unix(0, 0)
	th.setPace(RetryConfig{MinWait: time.Second, MaxWait: 4 * time.Second}, nil)
	for i := range failuresToSlow {
		stepped, _ := th.failed([]Delivery{delivered(zero)}, true, zero)
		require.Equal(t, i == failuresToSlow-1, stepped)
	}
	return th, zero
}

func TestAThrottleLetsOneProbeThroughWhenItIsDue(t *testing.T) {
	th, zero := slowed(t)
	on, until := th.slow()
	require.True(t, on)
	require.WithinRange(t, until, zero.Add(time.Second/2), zero.Add(time.Second))

	near := zero.Add(time.Minute)
	early, probe, next := delivered(near), delivered(near), delivered(near)
	require.False(t, th.lets(early, until.Add(-1)), "an answer that was under way")
	require.True(t, th.lets(probe, until))
	require.False(t, th.lets(next, until), "one alone")
	require.True(t, th.admits(probe))
	require.False(t, th.admits(early), "what a worker took from the channel meanwhile")
	require.True(t, th.lets(next, near), "the probe's lease is as good as over")
	require.False(t, th.admits(probe))
}

func TestAThrottleGoesByItsProbesAlone(t *testing.T) {
	th, zero := slowed(t)
	at := zero
	for _, most := range []time.Duration{2 * time.Second, 4 * time.Second, 4 * time.Second} {
		_, at = th.slow()
		stepped, _ := th.failed([]Delivery{delivered(zero)}, true, at)
		require.False(t, stepped, "a call that began before says nothing new")
		probe := delivered(zero.Add(time.Hour))
		require.True(t, th.lets(probe, at))
		stepped, wait := th.failed([]Delivery{probe}, false, at)
		require.True(t, stepped, "also one that has failed before")
		require.GreaterOrEqual(t, wait, most/2)
		require.LessOrEqual(t, wait, most)
	}
	_, at = th.slow()
	probe := delivered(zero.Add(time.Hour))
	require.True(t, th.lets(probe, at))
	require.True(t, th.undecided([]Delivery{probe}, at), "its own fault: another may follow at once")
	require.True(t, th.lets(delivered(zero.Add(time.Hour)), at))
	require.False(t, th.undecided([]Delivery{probe}, at), "it is the probe no longer")
}

func TestASuccessLiftsAThrottleAndEndsARow(t *testing.T) {
	th, zero := slowed(t)
	require.True(t, th.passed())
	on, _ := th.slow()
	require.False(t, on)
	require.True(t, th.admits(delivered(zero)))
	require.True(t, th.lets(delivered(zero), zero))
	for range 3 * failuresToSlow {
		for range failuresToSlow - 1 {
			stepped, _ := th.failed([]Delivery{delivered(zero)}, true, zero)
			require.False(t, stepped)
		}
		require.False(t, th.passed(), "it was not on")
	}
	for range 3 * failuresToSlow {
		stepped, _ := th.failed([]Delivery{delivered(zero)}, false, zero)
		require.False(t, stepped, "messages that fail again say nothing about others")
	}
}
