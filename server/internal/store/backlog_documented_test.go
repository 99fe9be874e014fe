package store

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOnlyTheNewestVersionWaitsForALease sends a thousand versions while the first is on lease.
func TestOnlyTheNewestVersionWaitsForALease(t *testing.T) {
	f := newFixture(t, StreamOptions{OneMessagePerKey: true, ProcessUnmodified: true}, ConsumerLimits{})
	f.send("hot")
	first := f.receive(1)
	for range 1_000 {
		f.send("hot")
		require.Empty(t, f.receive(1))
	}
	require.Len(t, f.consumer.(*consumer).backlog.(*documentedBacklog).heads["hot"].later, 1)
	require.NoError(t, f.consumer.Settle(t.Context(), []ID{first[0].ID}, Ack))
	require.Len(t, f.receive(10), 1)
}

// TestMessagesOfOneKeyAreDeliveredOnceAndInOrder receives and acks ten thousand messages of one key one by one. The
// backlog keeps them in one slice, which it must not move at every ack: a quadratic cost shows as a slow test.
func TestMessagesOfOneKeyAreDeliveredOnceAndInOrder(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	const n = 10_000
	for i := range n {
		_, err := f.Send(t.Context(), Once{}, []Message{{Key: "hot", Data: fmt.Sprint(i)}})
		require.NoError(t, err)
	}
	for i := range n {
		got := f.receive(10)
		require.Len(t, got, 1)
		require.Equal(t, fmt.Sprint(i), got[0].Data)
		require.NoError(t, f.consumer.Settle(t.Context(), []ID{got[0].ID}, Ack))
	}
	require.Empty(t, f.receive(1))
}
