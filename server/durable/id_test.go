package durable

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

func TestAnAckIDSaysWhichDeliveryItIsOf(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		const opening = 40_000
		want := backlog.Delivery{
			Seq:   random.Int64N(1 << 48),
			Lease: backlog.Lease{Opening: opening - random.Uint64N(1<<openingBits), Receive: random.Uint64N(1 << receiveBits)},
		}
		salt := random.Uint32N(1 << saltBits)
		id := ackID(salt, want)
		parsed, ok := store.ParseID([]byte(id.String()))
		require.True(t, ok, "%s is a UUID of version 4", id)
		got, ok := delivery(salt, parsed, opening)
		require.True(t, ok)
		require.Equal(t, want, got)
		_, ok = delivery(salt^1, id, opening)
		require.False(t, ok, "it is of another consumer")
	}
	future := ackID(7, backlog.Delivery{Seq: 1, Lease: backlog.Lease{Opening: 3, Receive: 1}})
	_, ok := delivery(7, future, 2)
	require.False(t, ok, "no such opening has been")
}

// TestAckIDsAreOfOneConsumer settles the deliveries of a consumer at another one.
func TestAckIDsAreOfOneConsumer(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a"))
		other, err := f.stream.CreateConsumer(f.Context(), store.ConsumerOptions{
			Name: "other", Filter: ">", ConsumerLimits: store.ConsumerLimits{AckWait: 1 << 40, MaxAckPending: 9, MaxWaiting: 9},
		})
		require.NoError(f, err)
		_, ids := f.receive(1)
		got, err := other.Receive(f.Context(), 1, nil)
		require.NoError(f, err)
		require.NotEqual(f, ids[0], got[0].ID)
		require.NoError(f, other.Settle(f.Context(), ids, store.Ack))
		state, err := other.State(f.Context())
		require.NoError(f, err)
		require.Len(f, state.Outstanding, 1)
	})
}
