package postgres

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/internal/pgcluster"
	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/internal/storetest"
)

// poolerURL starts a pooler in front of the database of the tests, and returns its URL.
func poolerURL(t testing.TB) string {
	t.Helper()
	requirePostgres(t)
	if ownCluster == nil {
		t.Skip("it needs a cluster of its own")
	}
	p, err := ownCluster.StartPooler()
	if errors.Is(err, pgcluster.ErrNoPooler) {
		require.Empty(t, os.Getenv("CI"), err)
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p.URL()
}

func openAt(t testing.TB, url string, o Options) *Store {
	t.Helper()
	st, err := Open(context.Background(), url, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// TestTheStoreConformsBehindAPooler runs what matters most through PgBouncer in transaction mode.
func TestTheStoreConformsBehindAPooler(t *testing.T) {
	url := poolerURL(t)
	storetest.Run(t, storetest.Config{
		Open: func(t testing.TB) store.Store { return openAt(t, url, virtual(newSchema(t))) },
		Reopen: func(t testing.TB, st store.Store) store.Store {
			require.NoError(t, st.Close())
			return openAt(t, url, virtual(st.(*Store).options.Schema))
		},
		Groups: []string{"sends", "repeats", "keys", "waits", "purges", "concurrency"},
	})
}

// TestAWaitBehindAPoolerEnds holds that a replica behind a pooler looks by itself, and listens where it is told to.
func TestAWaitBehindAPoolerEnds(t *testing.T) {
	url, schema := poolerURL(t), newSchema(t)
	o := realTime(schema)
	o.lookEvery = 0
	direct, behind := openWith(t, o), openAt(t, url, o)
	require.False(t, direct.options.pooler)
	require.True(t, behind.options.pooler)
	require.False(t, behind.wake.listens)
	s, _ := newConsumer(t, direct, store.StreamOptions{})
	o = realTime(schema) // looks once an hour
	o.ListenURL = databaseURL
	listening := openAt(t, url, o)
	for _, st := range []*Store{behind, listening} {
		_, c := onReplica(t, st)
		place, err := c.Queue(t.Context())
		require.NoError(t, err)
		send(t, s, store.Message{Key: "a"})
		select {
		case <-place.Ready():
		case <-time.After(30 * time.Second):
			t.Fatal("nothing wakes it")
		}
		got, err := place.Receive(t.Context(), 9, nil)
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Ack))
	}
}

// TestTheDatabaseIsMigratedAndDiagnosedBehindAPooler calls what needs no store.
func TestTheDatabaseIsMigratedAndDiagnosedBehindAPooler(t *testing.T) {
	url := poolerURL(t)
	o := Options{Schema: newSchema(t)}
	for range 3 { // of several connections to the database
		_, err := Migrate(t.Context(), url, o)
		require.NoError(t, err)
		found, err := Diagnose(t.Context(), url, o)
		require.NoError(t, err)
		require.NotEmpty(t, found.Findings)
	}
}

// TestSendTxWorksBehindAPooler has the application connect through it, too, with pgx as it is set up for a pooler.
func TestSendTxWorksBehindAPooler(t *testing.T) {
	url := poolerURL(t)
	st := openAt(t, url, Options{Schema: newSchema(t), moveEvery: -1})
	_, worker := newConsumer(t, st, store.StreamOptions{})
	cfg, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	for range 3 {
		require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			return Outbox{Schema: st.options.Schema}.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", "d")})
		}))
		require.NoError(t, st.Flush(t.Context(), "s"))
		require.Equal(t, []string{"k=d"}, received(t, worker))
	}
}
