package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/pgcluster"
	"github.com/sequin-go/sequin/server/internal/store"
)

// TestACrashOfPostgresTakesNothingThatWasAnswered crashes the database while two replicas work. The writer of its log waits
// long, so that a transaction that no answer waits for is lost.
func TestACrashOfPostgresTakesNothingThatWasAnswered(t *testing.T) {
	requirePostgres(t)
	c, err := newCluster()
	if errors.Is(err, pgcluster.ErrNotInstalled) {
		t.Skip("it needs a cluster of its own")
	}
	require.NoError(t, err)
	defer c.Close()
	o := Options{MaxConns: 4, cleanEvery: -1, RetryFor: attemptTimeout}
	one, err := Open(t.Context(), c.URL(), o)
	require.NoError(t, err)
	defer one.Close()
	two, err := Open(t.Context(), c.URL(), o)
	require.NoError(t, err)
	defer two.Close()
	s, reader := newConsumer(t, one, store.StreamOptions{})
	s2, reader2 := onReplica(t, two)

	const total = 60
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		last := 0
		for n := 0; last < total; n++ {
			from := []store.Consumer{reader, reader2}[n%2]
			got, err := from.Receive(context.Background(), 5, nil)
			if !assert.NoError(t, err) {
				return
			}
			for _, d := range got {
				assert.Equal(t, fmt.Sprint(last), d.Data, "each comes once, in order")
				last++
				assert.NoError(t, from.Settle(context.Background(), []store.ID{d.ID}, store.Ack))
			}
		}
	}()
	go func() {
		for n := range total {
			_, err := []store.Stream{s, s2}[n%2].Send(context.Background(), store.Once{}, []store.Message{{Key: "k", Data: fmt.Sprint(n)}})
			assert.NoError(t, err)
			sent.Add(1)
		}
	}()
	for range 2 {
		for before := sent.Load(); sent.Load() < min(before+10, total); {
			_ = one.Probe(t.Context())
		}
		require.NoError(t, c.Crash())
		require.NoError(t, c.Run("wal_writer_delay=10s"))
	}
	<-done
	state, err := reader.State(t.Context())
	require.NoError(t, err)
	require.Empty(t, state.Outstanding)
	require.Zero(t, state.Available)
}
