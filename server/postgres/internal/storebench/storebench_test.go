package main

import (
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/pgcluster"
)

// startPostgres starts a cluster for one test.
func startPostgres(t *testing.T) string {
	t.Helper()
	c, err := pgcluster.New()
	if errors.Is(err, pgcluster.ErrNotInstalled) {
		require.Empty(t, os.Getenv("CI"), err)
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.Run("fsync=off"))
	return c.URL()
}

// TestEachWorkOfEachContenderIsMeasured also holds that nothing is left in the database.
func TestEachWorkOfEachContenderIsMeasured(t *testing.T) {
	url := startPostgres(t)
	for _, c := range []cell{
		{work: workAppend, size: 100, messages: 2500, consumers: 3, replicas: 4},
		{work: workUpsert, size: 100, messages: 2000, replicas: 1, keys: 1000},
		{work: workReceive, size: 1 << 10, messages: 2000, consumers: 3, replicas: 4},
		{work: workBoth, size: 100, messages: 2000, consumers: 2, replicas: 1},
		{work: workSend, size: 100, messages: 100, consumers: 1, replicas: 2},
		{work: workReceiveOne, size: 100, messages: 100, consumers: 1, replicas: 2},
	} {
		for _, name := range []string{contenderStore, contenderSQL} {
			t.Run(c.work+", "+name, func(t *testing.T) {
				r, err := run(t.Context(), url, name, c)
				require.NoError(t, err)
				require.Positive(t, r.PerSecond)
				if c.work == workSend || c.work == workReceiveOne {
					require.Positive(t, r.P50)
					require.LessOrEqual(t, r.P50, r.P99)
				}
			})
		}
	}
	_, err := run(t.Context(), url, "other", cell{})
	require.ErrorContains(t, err, `there is no contender "other"`)
	_, err = run(t.Context(), url, contenderStore, cell{work: "other", replicas: 1})
	require.ErrorContains(t, err, `there is no work "other"`)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pg_namespace where nspname like 'bench%' or nspname like 'old%'").Scan(&left))
	require.Zero(t, left)
}

// TestTheSQLOf2024DeliversAndReplaces holds that it does what that server did: a new version of a message that is on lease comes
// after the lease, an acked one does not come again, and unchanged data is not stored.
func TestTheSQLOf2024DeliversAndReplaces(t *testing.T) {
	url := startPostgres(t)
	c := cell{work: workReceive, size: 100, messages: 10, consumers: 1}
	o, err := openSQL(t.Context(), url, c)
	require.NoError(t, err)
	defer func() { require.NoError(t, o.remove(t.Context())) }()
	all := fresh(c, 0, 10)
	require.NoError(t, o.publish(t.Context(), 0, all))
	require.ErrorContains(t, o.publish(t.Context(), 0, all), "0 of 10 messages changed the stream")
	first, err := o.receive(t.Context(), 0, 0, 4)
	require.NoError(t, err)
	require.Len(t, first, 4)
	all[0].Data += " "
	require.NoError(t, o.publish(t.Context(), 0, all[:1]), "it is on lease")
	require.NoError(t, o.ack(t.Context(), 0, 0, first))
	rest, err := o.receive(t.Context(), 0, 0, 100)
	require.NoError(t, err)
	require.Len(t, rest, 7, "six that were never leased, and the new version")
	require.NoError(t, o.ack(t.Context(), 0, 0, rest))
	rest, err = o.receive(t.Context(), 0, 0, 100)
	require.NoError(t, err)
	require.Empty(t, rest)
}

// TestDocumentsHaveTheirSize also holds that an upsert changes what it should.
func TestDocumentsHaveTheirSize(t *testing.T) {
	for _, size := range []int{100, 1 << 10} {
		for _, text := range documents(size) {
			require.InDelta(t, size, len(text), 10)
		}
	}
	c := cell{work: workUpsert, size: 100, messages: 10_000, keys: 9_000}
	known, before := 0, map[string]string{}
	for _, m := range fresh(c, 0, c.keys) {
		before[m.Key] = m.Data
	}
	seen := map[string]bool{}
	for _, m := range changed(c) {
		require.False(t, seen[m.Key], "a key occurs once")
		seen[m.Key] = true
		if old, ok := before[m.Key]; ok {
			known++
			require.NotEqual(t, old, m.Data)
		}
	}
	require.Equal(t, 3_000, known)
}

func TestTheTimesOfRequestsAreCounted(t *testing.T) {
	r, err := single(1000, func(int, int) (bool, error) { return true, nil })
	require.NoError(t, err)
	require.Positive(t, r.PerSecond)
	failure := errors.New("x")
	_, err = single(1000, func(int, int) (bool, error) { return false, failure })
	require.ErrorIs(t, err, failure)
}
