package store

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAMeasurePassesByWhatTheFilterLeavesOut has a consumer whose filter matches nothing, and that nobody asks for messages.
func TestAMeasurePassesByWhatTheFilterLeavesOut(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	c, err := f.CreateConsumer(t.Context(), ConsumerOptions{Name: "none", Filter: "none", ConsumerLimits: ConsumerLimits{MaxAckPending: 9}})
	require.NoError(t, err)
	measure := func() Measure {
		m, err := c.(Measured).Measure(t.Context())
		require.NoError(t, err)
		return m
	}
	for i := range 2*measureAtMost + 1 {
		f.send(fmt.Sprint("k", i))
	}
	require.Positive(t, measure().OldestAt, "it looks at some of them each time")
	require.True(t, measure().Estimated)
	require.Equal(t, Measure{}, measure())
}

// TestAnEstimateCountsWhatIsDead has a log of which every second entry was replaced.
func TestAnEstimateCountsWhatIsDead(t *testing.T) {
	f := newFixture(t, StreamOptions{OneMessagePerKey: true}, ConsumerLimits{})
	const keys = 2 * measureAtMost
	for i := range keys {
		f.send(fmt.Sprint("k", i))
	}
	for i := range keys / 2 {
		_, err := f.Send(t.Context(), Once{}, []Message{{Key: fmt.Sprint("k", 2*i), Data: "changed"}})
		require.NoError(t, err)
	}
	m, err := f.consumer.(Measured).Measure(t.Context())
	require.NoError(t, err)
	require.True(t, m.Estimated)
	require.InDelta(t, keys, m.Backlog, keys/10)
}
