package flow

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// begin starts a request, which must not have to wait.
func begin(t *testing.T, l *Link, bytes int) Turn {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	at, err := l.Begin(ctx, bytes)
	require.NoError(t, err)
	return at
}

// limited returns a Link on which two requests of 100 bytes are too many at once. Nothing is in flight.
func limited(t *testing.T) *Link {
	t.Helper()
	l := NewLink(10, 10_000)
	begin(t, l, 100)
	at := begin(t, l, 100)
	require.Equal(t, Turn{InFlight: 200}, at)
	l.TimedOut(100, at)
	l.End(100)
	l.End(100)
	return l
}

func TestALinkHasNoLimitUntilRequestsTimeOutTogether(t *testing.T) {
	l := NewLink(10, 10_000)
	for range 100 {
		begin(t, l, 100)
	}
	for range 100 {
		l.End(100)
	}
	begin(t, l, 10)
	at := begin(t, l, 100)
	l.TimedOut(100, at) // alone beside a small one: less at once would not help
	require.Equal(t, Turn{InFlight: 210}, begin(t, l, 100))
}

func TestALimitedLinkSendsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limited(t)
		begin(t, l, 100)
		var sent [4]atomic.Bool
		for i, bytes := range []int{500, 40, 50, 60} {
			go func() {
				at, err := l.Begin(context.Background(), bytes)
				sent[i].Store(err == nil && at.Waited)
			}()
			synctest.Wait()
		}
		requireSent := func(first int) {
			t.Helper()
			synctest.Wait()
			for i := range sent {
				require.Equal(t, i < first, sent[i].Load(), i)
			}
		}
		requireSent(0)
		begin(t, l, 10) // a small one does not wait
		l.End(100)
		requireSent(1) // one above the limit is sent alone
		l.End(500)
		requireSent(3) // with the small one they fill the limit of 100
		l.End(10)
		l.End(40)
		requireSent(3)
		l.End(50)
		requireSent(4)
	})
}

func TestARequestWhoseCtxEndsGivesUpItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limited(t)
		begin(t, l, 60)
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp, sent := make(chan error, 1), make(chan error, 1)
		go func() { _, err := l.Begin(ctx, 100); gaveUp <- err }()
		synctest.Wait()
		go func() { _, err := l.Begin(t.Context(), 40); sent <- err }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-gaveUp, context.Canceled)
		require.NoError(t, <-sent, "it fits, and nobody is before it any more")
		l.End(60)
		l.End(40)
		begin(t, l, 100)
	})
}

func TestTheLimitOfALinkFollowsTheRateOfWhatGetsThrough(t *testing.T) {
	l := limited(t)
	l.Succeeded(100, time.Second, 2*time.Second) // 100 bytes in half of the time-out
	begin(t, l, 50)
	require.Equal(t, 100, begin(t, l, 50).InFlight)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Begin(ctx, 50)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	l.Succeeded(50, time.Second, 20*time.Second)
	require.Equal(t, 500, begin(t, l, 400).InFlight)
	l.Succeeded(400, time.Millisecond, 20*time.Second)
	require.Equal(t, 100_500, begin(t, l, 100_000).InFlight, "no limit any more")
}
