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

// The Publisher has room for more, but a lane that hangs must not fill the memory.
func TestTheTrackerFollowsALimitedNumberOfMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		create(t, client)
		hangs := srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second})
		pub, err := client.NewPublisher("s", sequin.PublisherConfig{MaxBuffered: 2 * maxPending})
		require.NoError(t, err)
		tracked := newTracker(pub, nil, nil)
		for range maxPending + 1 {
			require.ErrorIs(t, tracked.send(t.Context(), sequin.Message{Key: ""}), sequin.ErrInvalidKey, "a message that is refused takes no room")
		}
		for range maxPending {
			require.NoError(t, tracked.send(t.Context(), sequin.Message{Key: "k"}))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, tracked.send(ctx, sequin.Message{Key: "k"}), context.DeadlineExceeded)
		require.Equal(t, maxPending, pub.Stats().Buffered)

		hangs.Remove()
		require.NoError(t, tracked.send(t.Context(), sequin.Message{Key: "k"}))
		require.NoError(t, pub.Close(t.Context()))
		require.Empty(t, tracked.unsent())
	})
}
