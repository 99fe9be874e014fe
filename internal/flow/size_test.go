package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASizeFollowsWhatGetsThrough(t *testing.T) {
	const timeout = 30 * time.Second
	now := time.Now()
	s := NewSize(1000, 1<<20)
	require.Equal(t, 1<<20, s.Limit())
	s.Succeeded(1<<20, time.Hour, timeout, now)
	require.Equal(t, 1<<20, s.Limit(), "however slow: it got through")

	s.Failed(800_000, now)
	require.Equal(t, 400_000, s.Limit())
	s.Failed(800_000, now)
	require.Equal(t, 200_000, s.Limit(), "the same request failed again")
	s.Failed(100, now)
	require.Equal(t, 1000, s.Limit(), "the least")

	s.Succeeded(400, time.Millisecond, timeout, now)
	require.Equal(t, 1000, s.Limit(), "a small request does not show that a larger one gets through")
	s.Succeeded(500, time.Millisecond, timeout, now)
	require.Equal(t, 2000, s.Limit())
	s.Succeeded(2000, 20*time.Second, timeout, now)
	require.Equal(t, 2000, s.Limit(), "15 s carry 1,500 bytes")
	s.Succeeded(2000, 10*time.Second, timeout, now)
	require.Equal(t, 3000, s.Limit(), "15 s carry 3,000 bytes")
	for range 20 {
		s.Succeeded(s.Limit(), 0, timeout, now)
	}
	require.Equal(t, 768_000, s.Limit(), "800,000 bytes failed less than a minute ago")
	s.Succeeded(768_000, 0, timeout, now.Add(time.Minute))
	require.Equal(t, 1<<20, s.Limit(), "once a minute they are tried again")
	s.Failed(1<<20, now.Add(time.Minute))
	s.Succeeded(1<<19, 0, timeout, now.Add(2*time.Minute-1))
	require.Equal(t, 1<<19, s.Limit())
	s.Succeeded(1<<19, 0, timeout, now.Add(2*time.Minute))
	require.Equal(t, 1<<20, s.Limit())
}

func TestASizeRecoversFromAnOutageWithinAFewRequests(t *testing.T) {
	now := time.Now()
	s := NewSize(1000, 1<<20)
	s.Failed(1<<20, now)
	for range 30 {
		s.Failed(s.Limit(), now)
	}
	require.Equal(t, 1000, s.Limit())
	for range 10 {
		s.Succeeded(s.Limit(), 0, time.Second, now)
	}
	require.Equal(t, 1000<<10, s.Limit())
}
