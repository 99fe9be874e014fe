package batch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheHoldFollowsTheMedianOfRuns(t *testing.T) {
	var p pace
	require.Equal(t, MaxHold, p.hold(), "nothing known yet")
	p.record(100 * time.Microsecond)
	require.Equal(t, time.Millisecond, p.hold())
	p = pace{}
	p.record(5 * time.Millisecond)
	require.Equal(t, 10*time.Millisecond, p.hold())
	for range 7 {
		p.record(30 * time.Second)
	}
	for range 8 {
		p.record(4 * time.Millisecond)
	}
	require.Equal(t, 8*time.Millisecond, p.hold(), "seven stalls of fifteen do not count")
	p.record(30 * time.Second)
	p.record(30 * time.Second)
	require.Equal(t, 8*time.Millisecond, p.hold(), "they push out old stalls")
	for range 15 {
		p.record(time.Second)
	}
	require.Equal(t, MaxHold, p.hold())
}
