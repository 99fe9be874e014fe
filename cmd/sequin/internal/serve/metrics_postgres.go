package serve

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sequin-go/sequin/server/postgres"
)

const (
	// usageFor is how long figures of the database are kept. Several collectors may ask every few seconds.
	usageFor = 10 * time.Second
	// usageTimeout bounds a question to the database, so that an outage does not make the other metrics late.
	usageTimeout = 2 * time.Second
)

var (
	connectionsDesc    = prometheus.NewDesc("sequin_postgres_connections", "Connections of this replica to Postgres, without that for LISTEN.", []string{"state"}, nil)
	maxConnectionsDesc = prometheus.NewDesc("sequin_postgres_connections_max", "Limit of the connections of this replica.", nil, nil)
	acquiredDesc       = prometheus.NewDesc("sequin_postgres_acquires_total", "How often a connection was taken.", nil, nil)
	waitedDesc         = prometheus.NewDesc("sequin_postgres_acquire_waits_total", "How often no connection was free.", nil, nil)
	waitSecondsDesc    = prometheus.NewDesc("sequin_postgres_acquire_wait_seconds_total", "Time that was waited for free connections.", nil, nil)
	openedDesc         = prometheus.NewDesc("sequin_postgres_connects_total", "Connections that were opened.", nil, nil)

	byTable          = []string{"table"}
	tableBytesDesc   = prometheus.NewDesc("sequin_postgres_table_bytes", "Bytes of a table with its indexes.", byTable, nil)
	liveRowsDesc     = prometheus.NewDesc("sequin_postgres_table_rows", "Live rows of a table, as Postgres estimates them.", byTable, nil)
	deadRowsDesc     = prometheus.NewDesc("sequin_postgres_table_dead_rows", "Old versions of rows of a table that are not removed yet, as Postgres estimates them.", byTable, nil)
	oldestDesc       = prometheus.NewDesc("sequin_postgres_oldest_transaction_seconds", "Age of the transaction since whose beginning Postgres keeps old versions of rows.", nil, nil)
	oldestBehindDesc = prometheus.NewDesc("sequin_postgres_oldest_transaction_behind", "How many transactions began since that one, or since the position of a replication slot.", nil, nil)
	readAtDesc       = prometheus.NewDesc("sequin_postgres_usage_timestamp_seconds", "When the figures of tables and transactions were read. They are kept for 10 s, and while the database does not answer.", nil, nil)
)

// postgresMetrics collects the figures of a store on Postgres.
type postgresMetrics struct {
	pool func() postgres.PoolStats
	read func(context.Context) (postgres.Usage, error)
	log  *slog.Logger

	mu     sync.Mutex // guards what follows; held while the database is asked, so that it is asked once
	asked  time.Time
	usage  postgres.Usage
	readAt time.Time // zero before the first answer
}

// Describe implements prometheus.Collector.
func (*postgresMetrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		connectionsDesc, maxConnectionsDesc, acquiredDesc, waitedDesc, waitSecondsDesc, openedDesc,
		tableBytesDesc, liveRowsDesc, deadRowsDesc, oldestDesc, oldestBehindDesc, readAtDesc,
	} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (m *postgresMetrics) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	pool := m.pool()
	send(connectionsDesc, prometheus.GaugeValue, float64(pool.Busy), "busy")
	send(connectionsDesc, prometheus.GaugeValue, float64(pool.Idle), "idle")
	send(maxConnectionsDesc, prometheus.GaugeValue, float64(pool.Max))
	send(acquiredDesc, prometheus.CounterValue, float64(pool.Acquired))
	send(waitedDesc, prometheus.CounterValue, float64(pool.Waited))
	send(waitSecondsDesc, prometheus.CounterValue, pool.WaitDuration.Seconds())
	send(openedDesc, prometheus.CounterValue, float64(pool.Opened))

	usage, readAt := m.recent()
	if readAt.IsZero() {
		return
	}
	for _, t := range usage.Tables {
		send(tableBytesDesc, prometheus.GaugeValue, float64(t.Bytes), t.Name)
		send(liveRowsDesc, prometheus.GaugeValue, float64(t.Live), t.Name)
		send(deadRowsDesc, prometheus.GaugeValue, float64(t.Dead), t.Name)
	}
	send(oldestDesc, prometheus.GaugeValue, usage.Oldest.Age.Seconds())
	send(oldestBehindDesc, prometheus.GaugeValue, float64(usage.Oldest.Transactions))
	send(readAtDesc, prometheus.GaugeValue, float64(readAt.UnixMilli())/1000)
}

// recent returns what the database said last, and when. It asks again when that is no longer recent, but not more often while
// the database does not answer.
func (m *postgresMetrics) recent() (postgres.Usage, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.asked.IsZero() && time.Since(m.asked) < usageFor {
		return m.usage, m.readAt
	}
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	usage, err := m.read(ctx)
	m.asked = time.Now()
	if err != nil {
		m.log.Warn("the metrics of Postgres keep their last figures", "error", err)
		return m.usage, m.readAt
	}
	m.usage, m.readAt = usage, m.asked
	return m.usage, m.readAt
}
