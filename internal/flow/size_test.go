package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const lane = 3

func TestASizeFollowsWhatGetsThrough(t *testing.T) {
	const timeout = 30 * time.Second
	now := time.Now()
	s := Sizes{Smallest: 1000, Largest: 1 << 20}
	require.Equal(t, 1<<20, s.Limit(lane))
	s.Succeeded(lane, 1<<20, time.Hour, timeout, now)
	require.Equal(t, 1<<20, s.Limit(lane), "however slow: it got through")

	s.Failed(lane, 800_000, now)
	require.Equal(t, 400_000, s.Limit(lane))
	s.Failed(lane, 800_000, now)
	require.Equal(t, 200_000, s.Limit(lane), "the same request failed again")
	s.Failed(lane, 100, now)
	require.Equal(t, 1000, s.Limit(lane), "the least")

	s.Succeeded(lane, 400, time.Millisecond, timeout, now)
	require.Equal(t, 1000, s.Limit(lane), "a small request does not show that a larger one gets through")
	s.Succeeded(lane, 500, time.Millisecond, timeout, now)
	require.Equal(t, 2000, s.Limit(lane))
	s.Succeeded(lane, 2000, 20*time.Second, timeout, now)
	require.Equal(t, 2000, s.Limit(lane), "15 s carry 1,500 bytes")
	s.Succeeded(lane, 2000, 10*time.Second, timeout, now)
	require.Equal(t, 3000, s.Limit(lane), "15 s carry 3,000 bytes")
	for range 20 {
		s.Succeeded(lane, s.Limit(lane), 0, timeout, now)
	}
	require.Equal(t, 768_000, s.Limit(lane), "800,000 bytes failed less than a minute ago")
	s.Succeeded(lane, 768_000, 0, timeout, now.Add(time.Minute))
	require.Equal(t, 1<<20, s.Limit(lane), "once a minute they are tried again")
	s.Failed(lane, 1<<20, now.Add(time.Minute))
	s.Succeeded(lane, 1<<19, 0, timeout, now.Add(2*time.Minute-1))
	require.Equal(t, 1<<19, s.Limit(lane))
	s.Succeeded(lane, 1<<19, 0, timeout, now.Add(2*time.Minute))
	require.Equal(t, 1<<20, s.Limit(lane))
}

func TestASizeRecoversFromAnOutageWithinAFewRequests(t *testing.T) {
	now := time.Now()
	s := Sizes{Smallest: 1000, Largest: 1 << 20}
	s.Failed(lane, 1<<20, now)
	for range 30 {
		s.Failed(lane, s.Limit(lane), now)
	}
	require.Equal(t, 1000, s.Limit(lane))
	for range 10 {
		s.Succeeded(lane, s.Limit(lane), 0, time.Second, now)
	}
	require.Equal(t, 1000<<10, s.Limit(lane))
}

func TestEachSenderHasASizeOfItsOwnOnceARequestHasFailed(t *testing.T) {
	now := time.Now()
	s := Sizes{Smallest: 1000, Largest: 1 << 20}
	s.Succeeded(1, 1<<20, time.Second, time.Second, now)
	require.Empty(t, s.of, "nothing is to be known of a sender whose requests get through")
	require.False(t, s.Limited())
	s.Failed(1, 1<<20, now)
	require.True(t, s.Limited())
	require.Equal(t, []int{1 << 20, 1 << 19, 1 << 20}, []int{s.Limit(0), s.Limit(1), s.Limit(2)})
	s.Succeeded(2, 1<<20, 0, time.Second, now.Add(retrySize))
	require.Equal(t, 1<<19, s.Limit(1))
	s.Succeeded(1, 1<<19, 0, time.Second, now.Add(retrySize))
	require.Equal(t, 1<<20, s.Limit(1))
	require.False(t, s.Limited())
}
