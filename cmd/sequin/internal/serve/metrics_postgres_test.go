package serve

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/postgres"
)

// TestTheMetricsOfPostgresAskTheDatabaseEvery10Seconds also holds that an outage leaves the last figures.
func TestTheMetricsOfPostgresAskTheDatabaseEvery10Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		asked, busy := 0, 3
		var failure error
		m := newMetrics("v0", slog.New(slog.NewTextHandler(&log, nil)))
		m.registry.MustRegister(&postgresMetrics{
			log: m.log,
			pool: func() postgres.PoolStats {
				return postgres.PoolStats{Max: 16, Busy: busy, WaitDuration: 1500 * time.Millisecond}
			},
			read: func(ctx context.Context) (postgres.Usage, error) {
				deadline, limited := ctx.Deadline()
				require.True(t, limited)
				require.Equal(t, usageTimeout, time.Until(deadline))
				asked++
				return postgres.Usage{
					Tables: []postgres.TableUsage{{Name: "ops", Bytes: 8192, Live: 5, Dead: int64(asked)}},
					Oldest: postgres.OldestTransaction{Age: 90 * time.Second, Transactions: 12},
				}, failure
			},
		})
		metrics := func() string {
			w := httptest.NewRecorder()
			m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			require.Equal(t, 200, w.Code, w.Body)
			return w.Body.String()
		}
		failure = errors.New("down")
		require.NotContains(t, metrics(), "sequin_postgres_table_bytes{")
		require.Contains(t, log.String(), "keep their last figures")
		failure = nil
		time.Sleep(usageFor)
		for _, line := range []string{
			`sequin_postgres_connections{state="busy"} 3`, `sequin_postgres_connections_max 16`, `sequin_postgres_acquire_wait_seconds_total 1.5`,
			`sequin_postgres_table_bytes{table="ops"} 8192`, `sequin_postgres_table_rows{table="ops"} 5`, `sequin_postgres_table_dead_rows{table="ops"} 2`,
			`sequin_postgres_oldest_transaction_seconds 90`, `sequin_postgres_oldest_transaction_behind 12`,
		} {
			require.Contains(t, metrics(), line+"\n")
		}
		require.Equal(t, 2, asked)

		busy = 4
		time.Sleep(usageFor - time.Millisecond)
		require.Contains(t, metrics(), `sequin_postgres_connections{state="busy"} 4`, "these cost nothing, and are not kept")
		require.Equal(t, 2, asked)
		time.Sleep(time.Millisecond)
		failure = errors.New("down")
		require.Contains(t, metrics(), `sequin_postgres_table_dead_rows{table="ops"} 2`)
		require.Equal(t, 3, asked)
		metrics()
		require.Equal(t, 3, asked, "a database that does not answer is not asked at once again")
	})
}
