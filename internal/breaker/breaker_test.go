package breaker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// call returns the function has, for Failed and Inconclusive, of a call with one delivery.
func call(delivery string) func(string) bool {
	return func(probe string) bool { return probe == delivery }
}

// opened returns a breaker that has just opened, at the time zero. It waits 1 s, 2 s, 4 s, 4 s and so on.
func opened(t *testing.T) (*Breaker[string], time.Time) {
	t.Helper()
	b, zero := &Breaker[string]{}, time.Unix(0, 0)
	b.SetPace(func(step int) time.Duration { return min(time.Second<<step, 4*time.Second) })
	for i := range threshold {
		open, _ := b.Failed(call("any"), true, zero)
		require.Equal(t, i == threshold-1, open)
	}
	return b, zero
}

func TestOneProbeIsLetThroughWhenItIsDue(t *testing.T) {
	b, zero := opened(t)
	open, until := b.Open()
	require.True(t, open)
	require.Equal(t, zero.Add(time.Second), until)

	giveUp := zero.Add(time.Minute)
	require.False(t, b.Try("early", until.Add(-1), giveUp), "it arrived before a probe was due")
	require.True(t, b.Try("probe", until, giveUp))
	require.False(t, b.Try("next", until, giveUp), "one probe at a time")
	require.True(t, b.Admit("probe"))
	require.False(t, b.Admit("early"), "it was read from the channel before the breaker opened")
	require.True(t, b.Try("next", giveUp, giveUp.Add(time.Minute)), "the first probe had no result in time")
	require.False(t, b.Admit("probe"), "it was replaced")
}

func TestOnlyTheProbesCallMovesAnOpenBreaker(t *testing.T) {
	b, _ := opened(t)
	var at time.Time
	for _, want := range []time.Duration{2 * time.Second, 4 * time.Second, 4 * time.Second} {
		_, at = b.Open()
		open, _ := b.Failed(call("earlier"), true, at)
		require.False(t, open, "a call that began before the breaker opened")
		require.True(t, b.Try("probe", at, at.Add(time.Hour)))
		open, wait := b.Failed(call("probe"), false, at)
		require.True(t, open, "a probe counts even if its message has failed before")
		require.Equal(t, want, wait)
	}
}

func TestAnInconclusiveProbeIsFollowedByAnotherAtOnce(t *testing.T) {
	b, _ := opened(t)
	_, at := b.Open()
	giveUp := at.Add(time.Hour)
	require.True(t, b.Try("probe", at, giveUp))
	require.False(t, b.Inconclusive(call("other"), at), "it is not the probe")
	require.True(t, b.Inconclusive(call("probe"), at))
	require.True(t, b.Try("next", at, giveUp))
	require.False(t, b.Inconclusive(call("probe"), at), "it is the probe no longer")
}

func TestNoDeliveryIsTheProbeBetweenProbes(t *testing.T) {
	b, at := opened(t)
	require.False(t, b.Admit("any"))
	require.False(t, b.Inconclusive(call("any"), at))
}

func TestASuccessClosesTheBreakerAndEndsTheRow(t *testing.T) {
	b, zero := opened(t)
	require.True(t, b.Succeeded())
	open, _ := b.Open()
	require.False(t, open)
	require.True(t, b.Admit("any"))
	require.True(t, b.Try("any", zero, zero))
	for range 3 * threshold {
		for range threshold - 1 {
			open, _ := b.Failed(call("any"), true, zero)
			require.False(t, open)
		}
		require.False(t, b.Succeeded(), "it was not open")
	}
}

func TestCallsThatDoNotCountNeverOpenTheBreaker(t *testing.T) {
	b, zero := opened(t)
	b.Succeeded()
	for range 3 * threshold {
		open, _ := b.Failed(call("any"), false, zero)
		require.False(t, open)
	}
}

func TestAReceiveForAProbeAsksForMoreWithEachStep(t *testing.T) {
	b, at := opened(t)
	for want := 1; want <= 1<<20; want *= 2 {
		require.Equal(t, min(want, 1<<maxProbeSteps), b.ProbeSize())
		at = at.Add(time.Hour)
		require.True(t, b.Try("probe", at, at))
		b.Failed(call("probe"), true, at)
	}
}
