package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// running is a send that has begun and ends when the test says so.
type running struct {
	end  chan error
	done chan error
	n    int
}

func begin(s *replays, ctx context.Context, body string) *running {
	r := &running{end: make(chan error), done: make(chan error, 1)}
	go func() {
		var err error
		r.n, err = s.once(ctx, "k", []byte(body), func() (int, error) { return 7, <-r.end })
		r.done <- err
	}()
	synctest.Wait()
	return r
}

func TestARepeatWaitsForAFirstThatStillRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newReplays()
		first := begin(s, t.Context(), "x")
		repeat := begin(s, t.Context(), "x")
		require.Empty(t, repeat.done)
		first.end <- nil
		require.NoError(t, <-first.done)
		require.NoError(t, <-repeat.done)
		require.Equal(t, 7, repeat.n)
	})
}

func TestARepeatRunsWhenTheFirstFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newReplays()
		refused := errors.New("refused")
		first := begin(s, t.Context(), "x")
		repeat := begin(s, t.Context(), "x")
		first.end <- refused
		require.Equal(t, refused, <-first.done)
		repeat.end <- nil
		require.NoError(t, <-repeat.done)
		require.Equal(t, 7, repeat.n)
	})
}

func TestAnotherBodyDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newReplays()
		first := begin(s, t.Context(), "x")
		require.Equal(t, errOtherBody, <-begin(s, t.Context(), "y").done)
		first.end <- nil
		<-first.done
	})
}

func TestARepeatWhoseClientLeavesStopsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newReplays()
		first := begin(s, t.Context(), "x")
		ctx, leave := context.WithCancel(t.Context())
		repeat := begin(s, ctx, "x")
		leave()
		require.Equal(t, errStillRuns, <-repeat.done)
		first.end <- nil
		<-first.done
	})
}

func TestASendThatPanicsIsForgotten(t *testing.T) {
	s := newReplays()
	require.Panics(t, func() {
		_, _ = s.once(t.Context(), "k", nil, func() (int, error) { panic("broken") })
	})
	n, err := s.once(t.Context(), "k", nil, func() (int, error) { return 1, nil })
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
