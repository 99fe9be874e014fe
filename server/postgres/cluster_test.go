package postgres

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/pgcluster"
)

// databaseURL is where the tests find Postgres, or "" when there is none.
var databaseURL string

// ownCluster is the cluster of the tests, or nil.
var ownCluster *pgcluster.Cluster

// noPostgres says why there is none.
var noPostgres string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(withPostgres(func() int {
		if noPostgres != "" && os.Getenv("CI") == "" {
			_ = flag.Set("test.skip", "^Example") // an example cannot skip itself
		}
		return m.Run()
	}))
}

// withPostgres runs the tests on $SEQUIN_TEST_DATABASE_URL, or on a cluster of their own.
func withPostgres(run func() int) int {
	if databaseURL = os.Getenv("SEQUIN_TEST_DATABASE_URL"); databaseURL != "" {
		return run()
	}
	c, err := newCluster()
	if err != nil {
		noPostgres = err.Error()
		return run()
	}
	defer c.Close()
	databaseURL, ownCluster = c.URL(), c
	return run()
}

// newCluster starts a cluster that does not wait for the disk.
func newCluster(settings ...string) (*pgcluster.Cluster, error) {
	c, err := pgcluster.New()
	if err != nil {
		return nil, err
	}
	if err := c.Run(append([]string{"fsync=off", "full_page_writes=off"}, settings...)...); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// requirePostgres skips a test when there is no Postgres. In CI it fails.
func requirePostgres(t testing.TB) {
	t.Helper()
	if noPostgres == "" {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(noPostgres)
	}
	t.Skip(noPostgres)
}

var schemas atomic.Int64

// newSchema returns the name of a schema for a test, which is dropped when the test ends.
func newSchema(t testing.TB) string {
	t.Helper()
	requirePostgres(t)
	schema := fmt.Sprintf("test_%d_%d", os.Getpid(), schemas.Add(1))
	t.Cleanup(func() { execute(t, "drop schema if exists "+schema+" cascade") })
	return schema
}

func execute(t testing.TB, text string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, databaseURL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, text)
	require.NoError(t, err)
}

// openWith opens a store, which is closed when the test ends.
func openWith(t testing.TB, o Options) *Store {
	t.Helper()
	requirePostgres(t)
	if o.Schema == "" {
		o.Schema = newSchema(t)
	}
	st, err := Open(context.Background(), databaseURL, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}
