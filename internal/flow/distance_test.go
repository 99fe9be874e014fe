package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAServerIsFarIfEveryRoundTripTakesLong(t *testing.T) {
	var d Distance
	require.False(t, d.Far(), "not known")
	now := time.Now()
	add := func(after, took time.Duration) bool {
		now = now.Add(after)
		d.Add(now, took)
		return d.Far()
	}
	require.True(t, add(0, far))
	require.True(t, add(time.Second, time.Second))
	require.False(t, add(time.Second, far-1), "a quick one")
	require.False(t, add(57*time.Second, time.Second))
	require.False(t, add(time.Second, far), "the quick one was in the minute before")
	require.True(t, add(time.Minute, far), "in the one before that")
	require.False(t, add(time.Second, 0))
	require.False(t, add(time.Minute, far), "0 is known, too")
	require.True(t, add(time.Minute, far))
	require.False(t, add(time.Minute, 0))
	require.False(t, add(time.Minute, far))
	require.False(t, add(time.Second, 0))
	require.True(t, add(2*time.Minute, far), "nothing is known of the minute before")
}
