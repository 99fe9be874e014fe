package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// TestACanceledLongPollGetsNoDelivery closes the connection while the poll waits, then sends a message.
func TestACanceledLongPollGetsNoDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{})
		a := (&api{t, s.Server}).withStream("", "")
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			r, err := http.NewRequestWithContext(ctx, "GET", "http://pipe/api/streams/s/consumers/c/receive?wait_for=60000", nil)
			if err == nil {
				_, err = s.client.Do(r)
			}
			failed <- err
		}()
		synctest.Wait()
		require.Equal(t, 1, a.consumer().Waiting)
		cancel()
		require.ErrorIs(t, <-failed, context.Canceled)
		synctest.Wait()
		require.Equal(t, 0, a.consumer().Waiting)
		a.send("a=1")
		got := a.receive(`{}`)
		require.Equal(t, 1, got[0].DeliverCount)
	})
}

// brokenWriter is a connection that fails while the answer is written.
type brokenWriter struct {
	*httptest.ResponseRecorder
	failWrite bool
}

func (w brokenWriter) Write(b []byte) (int, error) {
	if w.failWrite {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func (w brokenWriter) FlushError() error { return io.ErrClosedPipe }

// TestMessagesThatCannotBeWrittenAreReturnedUncounted has one row for each moment at which the server notices that the
// client is gone.
func TestMessagesThatCannotBeWrittenAreReturnedUncounted(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	tests := map[string]struct {
		ctx context.Context
		w   http.ResponseWriter
	}{
		"gone before the answer":   {gone, httptest.NewRecorder()},
		"gone while it is written": {context.Background(), brokenWriter{httptest.NewRecorder(), true}},
		"gone at the last byte":    {context.Background(), brokenWriter{httptest.NewRecorder(), false}},
	}
	for name, tt := range tests {
		for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
			t.Run(fmt.Sprint(name, " ", compat), func(t *testing.T) {
				a := newAPI(t, server.Config{Compat: compat}).withStream("", "")
				a.send("a=1", "b=2")
				r := httptest.NewRequestWithContext(tt.ctx, "GET", "/api/streams/s/consumers/c/receive?batch_size=10", nil)
				a.ServeHTTP(tt.w, r)
				if compat == server.Aug2024 {
					require.Len(t, a.consumer().Outstanding, 2, "that server does not notice that a client is gone")
					return
				}
				got := a.receive(`{"batch_size":10}`)
				require.Equal(t, []string{"a=1", "b=2"}, got.pairs())
				require.Equal(t, 1, got[0].DeliverCount)
			})
		}
	}
}

func TestABatchIsReceivedInTheOrderOfSeq(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1", "b=2", "c=3", "d=4", "e=5")
	got := a.receive(`{"batch_size":4}`)
	a.nack(deliveries{got[3], got[0], got[2]})
	require.Equal(t, []string{"a=1", "c=3", "d=4", "e=5"}, a.receive(`{"batch_size":10}`).pairs())
}
