package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSlotsGrowWhileAllAreTakenByQuickRequests(t *testing.T) {
	const limit = 2 * time.Second
	s := NewSlots(2, 8)
	end := func(taken int, took time.Duration, succeeded, timedOut bool) int {
		for range taken {
			s.Begin()
		}
		s.End(took, limit, succeeded, timedOut)
		for range taken - 1 {
			s.End(limit, limit, true, false)
		}
		return s.Size()
	}
	require.Equal(t, 2, s.Size())
	require.Equal(t, 2, end(1, time.Millisecond, true, false), "one slot is free")
	require.Equal(t, 2, end(2, limit/4, true, false), "slow")
	require.Equal(t, 2, end(2, time.Millisecond, false, false), "failed")
	for _, want := range []int{3, 4, 5, 6, 7, 8, 8} {
		require.Equal(t, want, end(s.Size(), time.Millisecond, true, false))
	}
	require.Equal(t, 8, end(2, limit, false, false))
	for _, want := range []int{4, 2, 2} {
		require.Equal(t, want, end(2, limit, false, true))
	}
}
