package sequin_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// TestASubscriberLeavesOutWhatItDoesNotUse checks which receives ask for less of each message. The others return all of it.
func TestASubscriberLeavesOutWhatItDoesNotUse(t *testing.T) {
	asks := func(t *testing.T, w *world, want bool) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		_, err := w.client.SendMessage(w.ctx, "s", "a", "1")
		require.NoError(t, err)
		sub, err := w.client.Subscribe(w.ctx, "s", "all", sequin.SubscriberConfig{})
		require.NoError(t, err)
		d := <-sub.Deliveries()
		require.Equal(t, []string{"a", "1"}, []string{d.Key, d.Data})
		require.NoError(t, d.Nack())
		require.NoError(t, sub.Close(w.ctx))
		first := string(w.Requests(sequintest.Receive)[0].Body)
		require.Equal(t, want, strings.Contains(first, `"bare":true`), first)

		got, err := w.client.ReceiveMessages(w.ctx, "s", "all", sequin.ReceiveOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, got[0].DataHash)
		require.NotEmpty(t, got[0].StreamID)
	}
	t.Run("announced", func(t *testing.T) { inDocumentedWithout(t, nil, func(t *testing.T, w *world) { asks(t, w, true) }) })
	t.Run("not announced", func(t *testing.T) {
		inDocumentedWithout(t, []string{"bare"}, func(t *testing.T, w *world) { asks(t, w, false) })
	})
}
