package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Diagnosis is what Diagnose found. Each finding is about one thing, and they are in a fixed order.
type Diagnosis struct {
	Database string    `json:"database"` // where it is, without the password
	Findings []Finding `json:"findings"`
}

// Finding is a fact about a database.
type Finding struct {
	Name   string `json:"name"` // such as "version", "connections"
	Level  Level  `json:"level"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"` // what to do; "" when the level is OK
}

// Level says whether a store can work.
type Level string

// The levels of findings.
const (
	OK      Level = "ok"
	Warning Level = "warning" // it works, slower or less safely than it could
	Fault   Level = "fault"   // it does not work, or does not keep its promises
)

// Faults returns the number of findings that are faults.
func (d *Diagnosis) Faults() (n int) {
	for _, f := range d.Findings {
		if f.Level == Fault {
			n++
		}
	}
	return n
}

// facts are what the findings are made of.
type facts struct {
	version        int
	readable       string // of the version
	standby        bool   // or read-only
	role, database string
	seesOthers     bool // transactions of other roles
	pooler         bool // in front of the database
	roundTrip      time.Duration
	needed         int // connections of a replica
	connections    connectionFacts
	schema         string
	found, known   int // versions of the schema; found is 0 when there is none, and unreadable when the role must not see it
	rights         rightFacts
	settings       settingFacts
	usage          Usage
}

// unreadable stands for the version of a schema that the role must not see.
const unreadable = -1

type connectionFacts struct {
	allowed int // of the server, the database and the role
	server  int // of the server
	used    int // of the server
	own     int // used by stores in this database
}

type rightFacts struct {
	mayCreate bool     // the schema, or tables in it
	mayUse    bool     // the schema
	owner     bool     // of the schema
	tables    []string // those on which a right is missing
	functions []string // those that the role must not call
}

type settingFacts struct {
	fsync, fullPageWrites, autovacuum bool
	synchronousCommit                 string
	sharedBuffers                     int64 // bytes
}

// roundTrips is how often the way to the database is measured. The quickest one has met the fewest other delays.
const roundTrips = 5

// Diagnose looks at a database with the eyes of a store that is about to be opened there. It changes nothing. The error is
// that the database cannot be asked; it is one line that says what to do, and is ErrUnreachable when there is no connection.
func Diagnose(ctx context.Context, url string, o Options) (*Diagnosis, error) {
	o = o.withDefaults()
	cfg, err := poolConfig(url, &o)
	if err != nil {
		return nil, err
	}
	conn, err := connectOnce(ctx, cfg)
	if err != nil {
		return nil, openFailed(cfg.ConnConfig, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	f := facts{schema: o.Schema, known: len(migrations), needed: int(cfg.MaxConns) + 1}
	if err := f.read(ctx, conn); err != nil {
		return nil, openFailed(cfg.ConnConfig, err)
	}
	return &Diagnosis{Database: describe(cfg.ConnConfig), Findings: f.findings()}, nil
}

// read asks the database. Of one that is too old it asks nothing but its version, because the rest may not exist there.
func (f *facts) read(ctx context.Context, conn *pgx.Conn) error {
	if err := f.readServer(ctx, conn); err != nil || f.version < minVersion {
		return err
	}
	for _, part := range []func(context.Context, *pgx.Conn) error{f.readPooler, f.readRoundTrip, f.readConnections, f.readSchema, f.readSettings} {
		if err := part(ctx, conn); err != nil {
			return err
		}
	}
	var err error
	f.usage, err = readUsage(ctx, conn, f.schema)
	return err
}

func (f *facts) readServer(ctx context.Context, conn *pgx.Conn) error {
	return conn.QueryRow(ctx, `select current_setting('server_version_num')::int, current_setting('server_version'),
		pg_is_in_recovery() or current_setting('default_transaction_read_only')::bool, current_user, current_database(),
		pg_has_role(current_user, 'pg_read_all_stats', 'usage')`,
	).Scan(&f.version, &f.readable, &f.standby, &f.role, &f.database, &f.seesOthers)
}

func (f *facts) readPooler(ctx context.Context, conn *pgx.Conn) (err error) {
	f.pooler, err = leadsToPooler(ctx, conn)
	return err
}

func (f *facts) readRoundTrip(ctx context.Context, conn *pgx.Conn) error {
	for range roundTrips {
		begin := time.Now()
		if err := conn.Ping(ctx); err != nil {
			return err
		}
		if took := time.Since(begin); f.roundTrip == 0 || took < f.roundTrip {
			f.roundTrip = took
		}
	}
	return nil
}

// serverConnectionsSQL is how many connections the server allows to roles that are no superusers. Version 16 reserves some
// more for others.
const serverConnectionsSQL = `current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
	- coalesce(current_setting('reserved_connections', true), '0')::int`

// allowedConnectionsSQL is how many connections the server, the database and the role allow.
const allowedConnectionsSQL = `least(` + serverConnectionsSQL + `,
	(select rolconnlimit from pg_roles where rolname = current_user and rolconnlimit >= 0),
	(select datconnlimit from pg_database where datname = current_database() and datconnlimit >= 0))`

func (f *facts) readConnections(ctx context.Context, conn *pgx.Conn) error {
	c := &f.connections
	return conn.QueryRow(ctx, `select `+allowedConnectionsSQL+`, `+serverConnectionsSQL+`,
		(select sum(numbackends) from pg_stat_database) - 1, -- without this one
		(select count(*) from pg_stat_activity where datname = current_database() and application_name = 'sequin' and pid <> pg_backend_pid())`,
	).Scan(&c.allowed, &c.server, &c.used, &c.own)
}

// neededFunctions are those that a store calls and that a role may be forbidden to call.
var neededFunctions = []string{"pg_control_checkpoint()", "pg_control_system()", "pg_logical_emit_message(boolean, text, text)"}

func (f *facts) readSchema(ctx context.Context, conn *pgx.Conn) (err error) {
	if f.found, err = readSchemaVersion(ctx, conn, f.schema); isDenied(err) {
		f.found = unreadable
	} else if err != nil {
		return err
	}
	r := &f.rights
	err = conn.QueryRow(ctx, `select
		case when n.oid is null then has_database_privilege(current_database(), 'create') else has_schema_privilege(n.oid, 'create') end,
		n.oid is not null and has_schema_privilege(n.oid, 'usage'), n.oid is not null and pg_has_role(n.nspowner, 'usage')
		from (values (1)) one left join pg_namespace n on n.nspname = $1`, f.schema).Scan(&r.mayCreate, &r.mayUse, &r.owner)
	if err != nil {
		return err
	}
	rows, err := conn.Query(ctx, `select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = $1 and c.relkind = 'r' and not (has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
			and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete')) order by 1`, f.schema)
	if err != nil {
		return err
	}
	if r.tables, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return err
	}
	rows, err = conn.Query(ctx, "select f from unnest($1::text[]) as f where not has_function_privilege(f, 'execute')", neededFunctions)
	if err != nil {
		return err
	}
	r.functions, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return err
}

func (f *facts) readSettings(ctx context.Context, conn *pgx.Conn) error {
	s := &f.settings
	return conn.QueryRow(ctx, `select current_setting('fsync')::bool, current_setting('full_page_writes')::bool, current_setting('autovacuum')::bool,
		current_setting('synchronous_commit'), pg_size_bytes(current_setting('shared_buffers'))`,
	).Scan(&s.fsync, &s.fullPageWrites, &s.autovacuum, &s.synchronousCommit, &s.sharedBuffers)
}
