package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// slowStore is slow before and after it leases messages, as a machine under load is.
type (
	slowStore    struct{ store.Store }
	slowStream   struct{ store.Stream }
	slowConsumer struct{ store.Consumer }
)

func (s slowStore) Stream(ctx context.Context, ref string) (store.Stream, error) {
	stream, err := s.Store.Stream(ctx, ref)
	return slowStream{stream}, err
}

func (s slowStream) Consumer(ctx context.Context, ref string) (store.Consumer, error) {
	consumer, err := s.Stream.Consumer(ctx, ref)
	return slowConsumer{consumer}, err
}

func (c slowConsumer) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	time.Sleep(40 * time.Millisecond) // before the lease: part of the wait
	dst, err := c.Consumer.Receive(ctx, n, dst)
	time.Sleep(300 * time.Millisecond) // after it: part of the lease
	return dst, err
}

func TestTheWaitedTimeEndsWhenTheLeaseBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		do := func(path, body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			return w
		}
		do("/api/streams", `{"name":"s"}`)
		do("/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`)
		do("/api/streams/s/messages", `{"messages":[{"key":"a","data":"1"}]}`)
		s.store = slowStore{s.store}

		sent := time.Now()
		waited, err := strconv.Atoi(do("/api/streams/s/consumers/c/receive", "").Header().Get("Sequin-Waited-Ms"))
		require.NoError(t, err)
		require.Equal(t, 40, waited)
		state, ok := s.Inspect("s")
		require.True(t, ok)
		end := sent.Add(time.Duration(waited)*time.Millisecond + 30*time.Second)
		require.Equal(t, state.Consumers[0].Outstanding[0].Until, end, "the client computes the same end of the lease as the server")
	})
}
