package pgcheck

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/internal/pgcluster"
)

// How often what happens, on average.
const (
	backendEvery = 50 * time.Millisecond
	replicaEvery = 2 * time.Second
	crashEvery   = 3 * time.Second
)

// faults ends connections, replicas and the database.
type faults struct {
	cluster  *pgcluster.Cluster
	replicas *replicas
	now      func() time.Duration

	backends, kills, crashes int // how many of each
}

// settings delay the writer of the log of the database: a transaction that no answer has waited for is lost in a crash.
var settings = []string{"wal_writer_delay=10s", "fsync=off", "full_page_writes=off"}

// run makes faults until ctx ends. The first crash and the first kill come early, so that a short run has some.
func (f *faults) run(ctx context.Context) error {
	nextKill, nextCrash := replicaEvery/2, crashEvery/2
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for ctx.Err() == nil {
		pause(ctx, backendEvery/2+rand.N(backendEvery))
		if f.now() > nextKill {
			if err := f.replicas.kill(); err != nil {
				return err
			}
			f.kills++
			nextKill = f.now() + replicaEvery/2 + rand.N(replicaEvery)
		}
		if f.now() > nextCrash {
			if err := f.crash(); err != nil {
				return err
			}
			nextCrash = f.now() + crashEvery/2 + rand.N(crashEvery)
		}
		var err error
		if conn == nil || conn.IsClosed() {
			if conn, err = pgx.Connect(ctx, f.cluster.URL()); err != nil {
				continue
			}
		}
		if err := f.terminate(ctx, conn); err != nil {
			_ = conn.Close(ctx)
		}
	}
	return nil
}

// crash ends the database at once and starts it again.
func (f *faults) crash() error {
	if err := f.cluster.Crash(); err != nil {
		return fmt.Errorf("crash of Postgres: %w", err)
	}
	f.crashes++
	return f.cluster.Run(settings...)
}

// terminate ends the connection of a replica, one that is in use if there is one.
func (f *faults) terminate(ctx context.Context, conn *pgx.Conn) error {
	tag, err := conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sequin' order by state = 'idle', random() limit 1`)
	f.backends += int(tag.RowsAffected())
	return err
}
