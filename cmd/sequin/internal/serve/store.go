package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/postgres"
)

// opened is an open store.
type opened struct {
	use    func(*server.Config) // makes a server use it
	watch  func(*metrics)       // adds metrics of its own; nil for none
	slow   bool                 // a question about a consumer takes a transaction of a database
	where  string               // describes to a person where the messages are
	policy string               // describes what survives
	failed <-chan struct{}      // closed when the store cannot go on; nil if that cannot be
	err    func() error         // why it cannot go on
	close  func() error
}

// openStore opens the store of the configuration.
func openStore(cfg *Config) (*opened, error) {
	if cfg.Memory {
		return &opened{
			use:    func(*server.Config) {},
			where:  "in memory, lost when the server stops",
			policy: "memory, as " + cfg.Compat.String(),
			close:  func() error { return nil },
		}, nil
	}
	if cfg.Postgres != "" {
		return openPostgres(cfg)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	begin, syncs := time.Now(), newSyncTimes()
	st, err := durable.Open(dir, durable.Options{
		Sync: durable.SyncEvery(cfg.SyncEvery), MinFree: cfg.MinFree, OpenSegments: cfg.descriptors.segments, Logger: cfg.Logger,
		OnSync: func(took time.Duration) { syncs.Observe(took.Seconds()) },
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open the data directory %s: %w%s", dir, err, adviceFor(err, dir))
	}
	opening := time.Since(begin)
	cfg.Logger.Info("the store is open", "dir", dir, "streams", st.Info().Streams, "bytes", st.Info().DiskBytes, "took", opening)
	return &opened{
		use:    func(c *server.Config) { c.Store = st },
		watch:  func(m *metrics) { m.registry.MustRegister(syncs, durableMetrics{st.Info, opening}) },
		where:  dir,
		policy: policy(cfg.SyncEvery),
		failed: st.Failed(),
		err:    st.Err,
		close:  st.Close,
	}, nil
}

// openTimeout bounds how long a database may take to answer, so that a wrong address is told.
const openTimeout = 30 * time.Second

func openPostgres(cfg *Config) (*opened, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	begin := time.Now()
	st, err := postgres.Open(ctx, cfg.Postgres, postgres.Options{Logger: cfg.Logger, ListenURL: cfg.PostgresListen})
	if err != nil {
		return nil, err // says it all
	}
	cfg.Logger.Info("the store is open", "database", st.Where(), "took", time.Since(begin))
	return &opened{
		use:  func(c *server.Config) { c.Store = st },
		slow: true,
		watch: func(m *metrics) {
			m.registry.MustRegister(&postgresMetrics{pool: st.PoolStats, read: st.Usage, log: m.log})
		},
		where:  st.Where(),
		policy: "Postgres, flushed before each answer: survives what the database survives",
		close:  st.Close,
	}, nil
}

// policy says what survives what.
func policy(every time.Duration) string {
	if every == 0 {
		return "on disk, synced before each answer: survives a loss of power"
	}
	return fmt.Sprintf("on disk, synced every %v: survives the end of the process; a loss of power takes the last %v", every, every)
}

// adviceFor says what to do about an error of opening a store.
func adviceFor(err error, dir string) string {
	switch {
	case errors.Is(err, durable.ErrLocked):
		return ": stop that process, or use another --data"
	case errors.Is(err, durable.ErrVersion):
		return ": use the version of sequin that wrote it"
	case errors.Is(err, durable.ErrDamaged):
		return fmt.Sprintf(": see what is damaged with \"sequin check %s\", and save the rest with \"sequin repair %s --to NEW\"", dir, dir)
	case errors.Is(err, durable.ErrDiskFull):
		return ": make room on that disk, raise the limit of the size of files, or use another --data"
	case errors.Is(err, durable.ErrReadOnly), errors.Is(err, fs.ErrPermission):
		return ": give its files to the user that runs sequin, or use another --data"
	}
	return ""
}
