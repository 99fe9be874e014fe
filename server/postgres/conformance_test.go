package postgres

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/internal/storetest"
)

// virtual are options for a store in a synctest bubble: its clock is the bubble's. It does not listen, because the time of a
// bubble stands still while something waits for a connection.
func virtual(schema string) Options {
	return Options{
		Schema: schema, MaxConns: 4, ListenURL: "-", now: func() int64 { return time.Now().UnixMicro() },
		lookEvery: time.Minute, cleanEvery: -1, moveEvery: -1, maxMet: 3,
	}
}

// TestTheStoreConforms runs what every store promises, with one replica.
func TestTheStoreConforms(t *testing.T) {
	requirePostgres(t)
	storetest.Run(t, storetest.Config{
		Open: func(t testing.TB) store.Store { return openWith(t, virtual("")) },
		Reopen: func(t testing.TB, st store.Store) store.Store {
			require.NoError(t, st.Close())
			return openWith(t, virtual(st.(*Store).options.Schema))
		},
		Seeds: 1,
	})
}
