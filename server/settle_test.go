package server_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnUndeliveredNackDoesNotCountTheDelivery(t *testing.T) {
	inBubble(t, "", `,"max_deliver":1`, func(t *testing.T, a *api) {
		a.send("a=1")
		for range 3 {
			got := a.receive(`{}`)
			require.Equal(t, 1, got[0].DeliverCount)
			a.ok("POST", "/api/streams/s/consumers/c/nack", got.ids(`,"undelivered":true`))
		}
		got := a.receive(`{}`)
		a.ok("POST", "/api/streams/s/consumers/c/nack", got.ids(`,"undelivered":false`))
		require.Empty(t, a.receive(`{}`))
	})
}

// TestAnOldAckIDDoesNothing covers acks after a nack, an expiry and a redelivery.
func TestAnOldAckIDDoesNothing(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1")
		nacked := a.receive(`{}`)
		a.nack(nacked)
		a.ack(nacked)
		expired := a.receive(`{}`)
		require.NotEqual(t, nacked[0].AckID, expired[0].AckID)
		time.Sleep(10 * time.Second)
		a.ack(expired)
		held := a.receive(`{}`)
		require.Equal(t, 3, held[0].DeliverCount)
		for _, old := range []deliveries{nacked, expired} {
			a.ack(old)
			a.nack(old)
		}
		require.Equal(t, held[0].AckID, a.consumer().Outstanding[0].AckID)
		a.ack(held)
		a.nack(held)
		require.Empty(t, a.receive(`{}`))
	})
}
