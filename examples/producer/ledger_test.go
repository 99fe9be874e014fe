package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// The Publisher has room for more, but whoever stalls it must not fill the memory.
func TestTheLedgerFollowsOnlySoManyMessagesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		create(t, client)
		stalled := srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second})
		pub, err := client.NewPublisher("s", sequin.PublisherConfig{MaxBuffered: 2 * mostOpen})
		require.NoError(t, err)
		l := newLedger(pub, nil, nil)
		for range mostOpen + 1 {
			require.ErrorIs(t, l.send(t.Context(), sequin.Message{Key: ""}), sequin.ErrInvalidKey, "it takes no room")
		}
		for range mostOpen {
			require.NoError(t, l.send(t.Context(), sequin.Message{Key: "k"}))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, l.send(ctx, sequin.Message{Key: "k"}), context.DeadlineExceeded)
		require.Equal(t, mostOpen, pub.Stats().Buffered)

		stalled.Remove()
		require.NoError(t, l.send(t.Context(), sequin.Message{Key: "k"}))
		require.NoError(t, pub.Close(t.Context()))
		require.Empty(t, l.end())
	})
}
