package pgcluster

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAClusterRunsAgainAndHasAStandby makes a table, crashes the server, and finds the table again, also on a standby.
func TestAClusterRunsAgainAndHasAStandby(t *testing.T) {
	c, err := New()
	if errors.Is(err, ErrNotInstalled) {
		require.Empty(t, os.Getenv("CI"), err)
		t.Skip(err)
	}
	require.NoError(t, err)
	defer func() {
		require.NoError(t, c.Close())
		require.NoDirExists(t, c.Dir())
	}()
	sql := func(c *Cluster, text string) string {
		out, err := c.Command("psql", "-X", "-A", "-t", "-q", c.URL(), "-c", text).CombinedOutput()
		require.NoErrorf(t, err, "%s", out)
		return string(out)
	}
	require.NoError(t, c.Run())
	sql(c, "create table t as select 7 as x")
	require.NoError(t, c.Crash())
	require.NoError(t, c.Run("work_mem=8MB"))
	require.Equal(t, "7 8MB\n", sql(c, "select x || ' ' || current_setting('work_mem') from t"))

	standby, err := c.NewStandby()
	require.NoError(t, err)
	defer standby.Close()
	require.NoError(t, standby.Run())
	require.Equal(t, "t7\n", sql(standby, "select left(pg_is_in_recovery()::text, 1) || x from t"))
	require.NoError(t, standby.Stop())
	require.ErrorContains(t, standby.Run("port=nope"), "postgres has ended")
}
