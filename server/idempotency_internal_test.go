package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// running is a send that runs until the test ends it.
type running struct {
	end  chan error
	done chan error
	n    int
}

// begin starts a send and returns when it runs or waits.
func begin(s *streamSends, ctx context.Context, body string) *running {
	r := &running{end: make(chan error), done: make(chan error, 1)}
	go func() {
		var err error
		r.n, err = s.once(ctx, "k", []byte(body), func() (int, error) { return 7, <-r.end })
		r.done <- err
	}()
	synctest.Wait()
	return r
}

func TestARepeatedSendWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreamSends()
		first := begin(s, t.Context(), "x")
		repeat := begin(s, t.Context(), "x")
		require.Empty(t, repeat.done)
		first.end <- nil
		require.NoError(t, <-first.done)
		require.NoError(t, <-repeat.done)
		require.Equal(t, 7, repeat.n)
	})
}

func TestARepeatedSendRunsWhenTheFirstFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreamSends()
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

func TestAnotherBodyIsRefusedWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreamSends()
		first := begin(s, t.Context(), "x")
		require.Equal(t, errOtherBody, <-begin(s, t.Context(), "y").done)
		first.end <- nil
		<-first.done
	})
}

func TestARepeatedSendStopsWaitingWhenItsClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreamSends()
		first := begin(s, t.Context(), "x")
		ctx, cancel := context.WithCancel(t.Context())
		repeat := begin(s, ctx, "x")
		cancel()
		require.Equal(t, errStillRunning, <-repeat.done)
		first.end <- nil
		<-first.done
	})
}

func TestASendThatPanicsIsForgotten(t *testing.T) {
	s := newStreamSends()
	require.Panics(t, func() {
		_, _ = s.once(t.Context(), "k", nil, func() (int, error) { panic("broken") })
	})
	n, err := s.once(t.Context(), "k", nil, func() (int, error) { return 1, nil })
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestADeletedStreamLeavesNoIdempotencyKeys(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	do := func(method, path, body string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "k")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
	}
	left := func() (n int) {
		s.keyed.streams.Range(func(any, any) bool { n++; return true })
		return n
	}
	do("POST", "/api/streams", `{"name":"s"}`)
	do("POST", "/api/streams/s/messages", `{"messages":[{"key":"a","data":"x"}]}`)
	require.Equal(t, 1, left())
	do("DELETE", "/api/streams/s", "")
	require.Zero(t, left())
}
