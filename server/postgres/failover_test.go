package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/pgcluster"
	"github.com/sequin-go/sequin/server/internal/store"
)

// TestAStoreFollowsAPromotedStandby loses the primary of a synchronous standby, which is promoted, under a URL with both hosts.
// Nothing that was answered is lost, and what was on lease comes again.
func TestAStoreFollowsAPromotedStandby(t *testing.T) {
	primary, err := newCluster()
	if errors.Is(err, pgcluster.ErrNotInstalled) {
		requirePostgres(t)
		t.Skip(err)
	}
	require.NoError(t, err)
	defer primary.Close()
	standby, err := primary.NewStandby()
	require.NoError(t, err)
	defer standby.Close()
	require.NoError(t, standby.Run("fsync=off"))
	executeAt(t, primary.URL(), "alter system set synchronous_standby_names = '*'", "select pg_reload_conf()")

	url := fmt.Sprintf("postgres:///postgres?host=%s,%s&user=%s&target_session_attrs=primary", primary.Dir(), standby.Dir(), pgcluster.User)
	st, err := Open(t.Context(), url, Options{MaxConns: 4, RetryFor: attemptTimeout})
	require.NoError(t, err)
	defer st.Close()
	s, c := newConsumer(t, st, store.StreamOptions{})
	send := func(n int) {
		_, err := s.Send(t.Context(), store.Once{}, []store.Message{{Key: fmt.Sprint("k", n), Data: fmt.Sprint(n)}})
		require.NoError(t, err)
	}
	const half = 20
	for n := range half {
		send(n)
	}
	got, err := c.Receive(t.Context(), half/2, nil)
	require.NoError(t, err)
	require.NoError(t, c.Settle(t.Context(), idsOf(got), store.Ack))
	leased, err := c.Receive(t.Context(), 1, nil)
	require.NoError(t, err)

	require.NoError(t, primary.Crash())
	executeAt(t, standby.URL(), "alter system set synchronous_standby_names = ''", "select pg_promote()")
	for n := range half {
		send(half + n)
	}
	require.NoError(t, c.Settle(t.Context(), idsOf(leased), store.Nack))
	rest, err := c.Receive(t.Context(), 100, nil)
	require.NoError(t, err)
	require.Len(t, rest, 2*half-half/2, "acked ones stay acked, and the others come")
	for i, d := range rest {
		require.Equal(t, fmt.Sprint(half/2+i), d.Data)
	}
}

// executeAt runs statements in a database, each in a transaction of its own.
func executeAt(t *testing.T, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	for _, text := range statements {
		_, err = conn.Exec(t.Context(), text)
		require.NoError(t, err)
	}
}
