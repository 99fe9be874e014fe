package durable

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

func TestEachSyncIsReported(t *testing.T) {
	var syncs, took atomic.Int64
	st := open(t, t.TempDir(), Options{OnSync: func(d time.Duration) { syncs.Add(1); took.Add(int64(d)) }})
	s, err := st.CreateStream(t.Context(), store.StreamOptions{Name: "s"})
	require.NoError(t, err)
	before := syncs.Load()
	_, err = s.Send(t.Context(), store.Once{}, []store.Message{{Key: "a", Data: "d"}})
	require.NoError(t, err)
	require.Greater(t, syncs.Load(), before)
	require.Equal(t, st.Info().Syncs, syncs.Load())
	require.Positive(t, took.Load())
}

// TestAMeasureReadsTheTimeOfAMessageOnce has an oldest message that stays the same.
func TestAMeasureReadsTheTimeOfAMessageOnce(t *testing.T) {
	st := open(t, t.TempDir(), Options{})
	s, err := st.CreateStream(t.Context(), store.StreamOptions{Name: "s"})
	require.NoError(t, err)
	made, err := s.CreateConsumer(t.Context(), store.ConsumerOptions{Name: "c", Filter: ">", ConsumerLimits: store.ConsumerLimits{AckWait: time.Hour, MaxAckPending: 9, MaxWaiting: 1}})
	require.NoError(t, err)
	_, err = s.Send(t.Context(), store.Once{}, []store.Message{{Key: "a", Data: "d"}})
	require.NoError(t, err)
	c := made.(*consumerHandle)
	first, err := c.Measure(t.Context())
	require.NoError(t, err)
	require.NotZero(t, first.OldestAt)
	c.current.Load().measured.at = 7
	again, err := c.Measure(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(7), again.OldestAt)
}

// TestAMeasurePassesByWhatTheFilterLeavesOut has a consumer whose filter matches nothing, and that nobody asks for messages.
func TestAMeasurePassesByWhatTheFilterLeavesOut(t *testing.T) {
	st := open(t, t.TempDir(), Options{})
	s, err := st.CreateStream(t.Context(), store.StreamOptions{Name: "s"})
	require.NoError(t, err)
	c, err := s.CreateConsumer(t.Context(), store.ConsumerOptions{Name: "none", Filter: "none", ConsumerLimits: store.ConsumerLimits{AckWait: time.Hour, MaxAckPending: 9, MaxWaiting: 1}})
	require.NoError(t, err)
	_, err = s.Send(t.Context(), store.Once{}, []store.Message{{Key: "a", Data: "d"}, {Key: "b", Data: "d"}})
	require.NoError(t, err)
	m, err := c.(store.Measured).Measure(t.Context())
	require.NoError(t, err)
	require.Equal(t, store.Measure{}, m)
}

// TestAMeasureEstimatesWhatIsNotInTheWindow has messages of which a window holds a few, and of which one in four matches.
func TestAMeasureEstimatesWhatIsNotInTheWindow(t *testing.T) {
	st := open(t, t.TempDir(), Options{})
	s, err := st.CreateStream(t.Context(), store.StreamOptions{Name: "s"})
	require.NoError(t, err)
	c, err := s.CreateConsumer(t.Context(), store.ConsumerOptions{Name: "c", Filter: "a", ConsumerLimits: store.ConsumerLimits{AckWait: time.Hour, MaxAckPending: 99, MaxWaiting: 1}})
	require.NoError(t, err)
	for range 100 {
		batch := []store.Message{{Key: "a"}, {Key: "b"}, {Key: "b"}, {Key: "b"}}
		for i := range batch {
			batch[i].Data = strings.Repeat("x", smallRun/16)
		}
		_, err = s.Send(t.Context(), store.Once{}, batch)
		require.NoError(t, err)
	}
	m, err := c.(store.Measured).Measure(t.Context())
	require.NoError(t, err)
	require.True(t, m.Estimated)
	require.InDelta(t, 100, m.Backlog, 10)
}
