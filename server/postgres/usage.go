package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Usage is what the tables of a store take, and what keeps Postgres from cleaning them.
type Usage struct {
	Tables []TableUsage      // by name
	Oldest OldestTransaction // of all that hold back the cleaning of tables
}

// TableUsage is what one table takes. The rows are estimates of Postgres.
type TableUsage struct {
	Name  string
	Bytes int64 // with its indexes
	Live  int64 // rows
	Dead  int64 // old versions of rows that are not removed yet
}

// OldestTransaction is the transaction since whose beginning Postgres keeps old versions of rows. The zero value stands for
// none. A role without the rights of pg_read_all_stats sees its own transactions only.
type OldestTransaction struct {
	Kind         string        // "transaction", "prepared transaction" or "replication slot"
	ID           string        // the pid, the name of the prepared transaction, or that of the slot
	Application  string        // of a transaction
	Role         string        // "" for a slot
	State        string        // of a transaction, such as "idle in transaction"
	Age          time.Duration // 0 for a slot
	Transactions int64         // how many transactions began since
}

const tablesSQL = `select c.relname, pg_total_relation_size(c.oid), coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0)
	from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_stat_user_tables s on s.relid = c.oid
	where n.nspname = $1 and c.relkind = 'r' order by 1`

// oldestSQL leaves out workers of autovacuum, which do not keep others from cleaning.
const oldestSQL = `select kind, id, application, role, state, coalesce(seconds, 0)::float8, coalesce(xids, 0)::bigint from (
		select 'transaction' as kind, pid::text as id, coalesce(application_name, '') as application, coalesce(usename, '') as role,
			coalesce(state, '') as state, greatest(age(backend_xid), age(backend_xmin)) as xids,
			extract(epoch from clock_timestamp() - coalesce(xact_start, backend_start)) as seconds
		from pg_stat_activity
		where pid <> pg_backend_pid() and (backend_xid is not null or backend_xmin is not null)
			and backend_type <> 'autovacuum worker' and (datname = current_database() or backend_type = 'walsender')
		union all
		select 'prepared transaction', gid, '', owner, '', age(transaction), extract(epoch from clock_timestamp() - prepared)
		from pg_prepared_xacts where database = current_database()
		union all
		select 'replication slot', slot_name, '', '', '', age(xmin), null from pg_replication_slots where xmin is not null
	) holders order by xids desc, seconds desc nulls last limit 1`

type rowsQuerier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func readUsage(ctx context.Context, q rowsQuerier, schema string) (u Usage, err error) {
	rows, err := q.Query(ctx, tablesSQL, schema)
	if err != nil {
		return u, err
	}
	if u.Tables, err = pgx.CollectRows(rows, pgx.RowToStructByPos[TableUsage]); err != nil {
		return u, err
	}
	if rows, err = q.Query(ctx, oldestSQL); err != nil {
		return u, err
	}
	oldest, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o OldestTransaction, err error) {
		var seconds float64
		err = row.Scan(&o.Kind, &o.ID, &o.Application, &o.Role, &o.State, &seconds, &o.Transactions)
		o.Age = time.Duration(seconds * float64(time.Second))
		return o, err
	})
	if err == nil && len(oldest) > 0 {
		u.Oldest = oldest[0]
	}
	return u, err
}

// Usage reads what the tables take. It asks the database once and is not tried again. It takes about a millisecond.
func (st *Store) Usage(ctx context.Context) (Usage, error) {
	s, err := st.acquire(ctx)
	if err != nil {
		return Usage{}, storeError(err)
	}
	defer s.release()
	u, err := readUsage(s.ctx, s.conn, st.options.Schema)
	if err != nil {
		return u, storeError(fmt.Errorf("cannot read what the tables take: %w", err))
	}
	return u, nil
}

// PoolStats are the figures of the connections of one replica. That for LISTEN is not counted.
type PoolStats struct {
	Max          int // connections
	Busy         int // connections that run a statement
	Idle         int
	Acquired     int64         // how often a connection was taken
	Waited       int64         // how often none was free
	WaitDuration time.Duration // of those
	Opened       int64         // connections
}

// PoolStats returns the figures of the connections. It does not ask the database.
func (st *Store) PoolStats() PoolStats {
	s := st.pool.Stat()
	return PoolStats{
		Max: int(s.MaxConns()), Busy: int(s.AcquiredConns()), Idle: int(s.IdleConns()), Acquired: s.AcquireCount(),
		Waited: s.EmptyAcquireCount(), WaitDuration: s.EmptyAcquireWaitTime(), Opened: s.NewConnsCount(),
	}
}
