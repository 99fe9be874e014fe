package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connectOnce makes a connection beside the pool. It works through a pooler, too.
func connectOnce(ctx context.Context, cfg *pgxpool.Config) (*pgx.Conn, error) {
	one := cfg.ConnConfig.Copy()
	one.DefaultQueryExecMode = poolerMode
	return pgx.ConnectConfig(ctx, one)
}

// poolerMode prepares no statement by name.
const poolerMode = pgx.QueryExecModeCacheDescribe

// usePooler finds out whether the URL leads to a pooler, and sets what one needs. In its transaction mode each transaction may
// have another connection to the database. A statement that was prepared by name is then not there, and a LISTEN hears nothing.
func usePooler(ctx context.Context, conn *pgx.Conn, cfg *pgxpool.Config, o *Options) error {
	var err error
	if o.pooler, err = leadsToPooler(ctx, conn); err != nil || !o.pooler {
		return err
	}
	cfg.ConnConfig.DefaultQueryExecMode = poolerMode
	if o.ListenURL == "" {
		o.ListenURL = "-"
		o.Logger.Info("a pooler is in front of the database: waiting receives hear of what other servers send within 300 ms, and at once with the URL of the database itself, as ListenURL or --postgres-listen")
	}
	return nil
}

// leadsToPooler reports whether a connection leads to a pooler: the process that answers is not the one that the connection was
// told at its start. A pooler makes that number up, because it does not know yet which process will answer.
func leadsToPooler(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	err := conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid)
	return pid != conn.PgConn().PID(), err
}
