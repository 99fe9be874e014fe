package sequin_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// A server that does not speak HTTP any more after its answer sends no end of it.
func TestAnAnswerThatSwitchesProtocolsIsForeignAtOnce(t *testing.T) {
	forEachOperation(t, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 1}}, func(t *testing.T, w *world, o operation) {
		hc := w.Server.Client()
		hc.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
			open, _ := io.Pipe() // never has an end
			return &http.Response{StatusCode: 101, Header: http.Header{"Upgrade": {"websocket"}}, Body: open}, nil
		})
		client, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc, Retry: sequin.RetryConfig{MaxAttempts: 1}})
		require.NoError(t, err)
		began := time.Now()
		err = o.call(w.ctx, client)
		var api *sequin.APIError
		require.ErrorAs(t, err, &api)
		require.Equal(t, 101, api.Status)
		require.True(t, api.Foreign)
		require.Zero(t, time.Since(began))
	})
}

// A download is no answer of Sequin's, and its length is no reason to ask for fewer messages.
func TestAnEndlessAnswerOfAnotherServerIsForeign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := prepared(t, sequin.Config{})
		hc := w.Server.Client()
		hc.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(strings.NewReader("<html>"), bottomless{}))}, nil
		})
		client, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc, Retry: sequin.RetryConfig{MaxAttempts: 1}})
		require.NoError(t, err)
		client.SetMaxResponse(1 << 20)
		_, err = client.SendMessage(w.ctx, "s", "k", "1")
		var api *sequin.APIError
		require.ErrorAs(t, err, &api)
		require.True(t, api.Foreign)
		require.Contains(t, api.Error(), "more than 1048576 bytes")
		require.True(t, sequin.IsTransient(err))
	})
}

// A proxy sends the header of a refusal, and its page never ends. The status is known, and the call goes on.
func TestARefusalWhoseBodyDoesNotEndIsForeignAfter5Seconds(t *testing.T) {
	for _, status := range []int{403, 500, 503} {
		synctest.Test(t, func(t *testing.T) {
			w := prepared(t, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 2}})
			w.Fault(sequintest.Fault{Op: sequintest.Send, Status: status, Body: strings.Repeat("x", 1000), BytesPerSecond: 10, Count: 1})
			began := time.Now()
			_, err := w.client.SendMessage(w.ctx, "s", "k", "1")
			require.NoError(t, err)
			require.Less(t, time.Since(began), 6*time.Second)

			w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: status, Body: strings.Repeat("x", 1000), BytesPerSecond: 10})
			err = w.client.AckMessage(w.ctx, "s", "all", someID)
			var api *sequin.APIError
			require.ErrorAs(t, err, &api)
			require.Equal(t, status, api.Status)
			require.True(t, api.Foreign)
		})
	}
}

// bottomless is a body without an end.
type bottomless struct{}

func (bottomless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }
