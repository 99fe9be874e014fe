package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server/internal/store"
)

// BenchmarkOutbox measures the time from the commit of a transaction to the delivery of its message to a receive that waits at
// another replica.
func BenchmarkOutbox(b *testing.B) {
	for name, flush := range map[string]bool{"flush": true, "mover": false} {
		b.Run(name, func(b *testing.B) {
			o := Options{Schema: newSchema(b)}
			st, other := openWith(b, o), openWith(b, o)
			newConsumer(b, st, store.StreamOptions{})
			_, worker := onReplica(b, other)
			conn := connect(b)
			for b.Loop() {
				b.StopTimer()
				place, err := worker.Queue(b.Context())
				require.NoError(b, err)
				tx, err := conn.Begin(b.Context())
				require.NoError(b, err)
				require.NoError(b, Outbox{Schema: o.Schema}.SendTx(b.Context(), tx, "s", []sequin.Message{message("k", "d")}))
				b.StartTimer()
				got := deliver(b, tx, st, flush, place)
				b.StopTimer()
				require.NoError(b, worker.Settle(b.Context(), []store.ID{got[0].ID}, store.Ack))
				b.StartTimer()
			}
		})
	}
}

// deliver commits, and waits for the delivery at a place.
func deliver(b *testing.B, tx pgx.Tx, st *Store, flush bool, place store.Place) (got []store.Delivery) {
	require.NoError(b, tx.Commit(b.Context()))
	if flush {
		require.NoError(b, st.Flush(b.Context(), "s"))
	}
	for len(got) == 0 {
		<-place.Ready()
		var err error
		got, err = place.Receive(b.Context(), 1, nil)
		require.NoError(b, err)
	}
	return got
}
