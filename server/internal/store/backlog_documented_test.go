package store

import (
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
