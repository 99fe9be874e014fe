package sequin_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// orders creates the stream "orders" and a Publisher for it.
func (w *world) orders(t *testing.T, cfg sequin.PublisherConfig) *sequin.Publisher {
	t.Helper()
	_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	pub, err := w.client.NewPublisher("orders", cfg)
	require.NoError(t, err)
	return pub
}

// oneBatch is a config that sends once 1,000 messages are buffered.
func oneBatch() sequin.PublisherConfig { return sequin.PublisherConfig{Lanes: 1, Linger: time.Hour} }

// sendAll sends n messages with different keys. The data of those listed in bad begins with "poison".
func sendAll(t *testing.T, pub *sequin.Publisher, n int, bad ...int) {
	t.Helper()
	data := make([]string, n)
	for i := range data {
		data[i] = "good " + strconv.Itoa(i)
	}
	for _, i := range bad {
		data[i] = "poison " + strconv.Itoa(i)
	}
	for i := range data {
		require.NoError(t, pub.Send(t.Context(), "orders."+strconv.Itoa(i), data[i]))
	}
}

// poisoned reports whether a request holds a bad message.
func poisoned(r *sequintest.Request) bool { return strings.Contains(string(r.Body), "poison") }

// failed returns the failures in an error of Flush or Close.
func failed(t *testing.T, err error) []sequin.MessageError {
	t.Helper()
	var unsent *sequin.UnsentError
	require.ErrorAs(t, err, &unsent)
	return unsent.Failed
}

// stored returns the data of a stream's messages by key, in order.
func (w *world) stored(t *testing.T, name string) map[string][]string {
	t.Helper()
	s, ok := w.Stream(name)
	require.True(t, ok)
	byKey := map[string][]string{}
	for _, m := range s.Messages {
		byKey[m.Key] = append(byKey[m.Key], m.Data)
	}
	return byKey
}

// endedCtx is a ctx that has ended.
func endedCtx() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
