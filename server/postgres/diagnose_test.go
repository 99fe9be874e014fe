package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/pgcluster"
)

// healthy returns facts without a fault or a warning.
func healthy() facts {
	return facts{
		version: 150004, readable: "15.4", role: "app", database: "db", seesOthers: true, roundTrip: time.Millisecond,
		needed: 17, connections: connectionFacts{allowed: 97, server: 97, used: 20, own: 10}, schema: "sequin", found: 2, known: 2,
		rights:   rightFacts{mayUse: true},
		settings: settingFacts{fsync: true, fullPageWrites: true, autovacuum: true, synchronousCommit: "on", sharedBuffers: 1 << 30},
		usage:    Usage{Tables: []TableUsage{{"chunks", 5_000_000, 10, 900_000}, {"ops", 1_000_000, 3_000_000, 2_000_000}}},
	}
}

// changedFacts are facts that are not as they should be, with the finding about them.
var changedFacts = []struct {
	name   string
	change func(*facts)
	level  Level
	want   string // of the text and the advice
}{
	{"version", func(f *facts) { f.version, f.readable = 140011, "14.11" }, Fault, "Postgres 14.11: the store needs 15 or newer: upgrade it"},
	{"primary", func(f *facts) { f.standby = true }, Fault, "it is a standby or read-only: use the URL of the primary"},
	{"round trip", func(f *facts) { f.roundTrip = 12 * time.Millisecond }, Warning, "12.0 ms: run the servers near the database: each request takes two round trips"},
	{"pooler", func(f *facts) { f.pooler = true }, Warning,
		"a pooler is in front of the database: name the database itself in the URL: through a pooler, waiting receives hear of messages of other servers within 300 ms"},
	{"connections", func(f *facts) { f.connections.allowed = 16 }, Fault,
		"the role or the database may have 16, and a replica uses up to 17: raise their connection limit, or lower pool_max_conns in the URL"},
	{"connections", func(f *facts) { f.connections.allowed, f.connections.server = 16, 16 }, Fault,
		"the server allows 16, and a replica uses up to 17: raise max_connections, or lower pool_max_conns in the URL"},
	{"connections", func(f *facts) { f.connections.used = 81 }, Warning,
		"81 of 97 are used, 10 of them by this store; a replica uses up to 17: there is no room for another replica: raise max_connections, or lower pool_max_conns in the URL"},
	{"schema", func(f *facts) { f.found = 3 }, Fault, "sequin has version 3, this program knows 2: upgrade this program"},
	{"schema", func(f *facts) { f.found, f.rights.owner = 1, true }, Warning, `sequin has version 1 of 2: the next server that starts brings it up to date, or "sequin migrate up"`},
	{"rights", func(f *facts) { f.rights.tables = []string{"a", "b", "c", "d"} }, Fault,
		`role app lacks rights on a, b, c and 1 more tables: run: grant usage on schema "sequin" to "app"; grant select, insert, update, delete on all tables in schema "sequin" to "app"`},
	{"rights", func(f *facts) { f.rights.functions = []string{"f()", "g()"} }, Fault, `role app must not call f(): run: grant execute on function f(), g() to "app"`},
	{"settings", func(f *facts) { f.settings.fsync = false }, Fault, "fsync is off: a crash of the machine can destroy the database: run: alter system set fsync = on"},
	{"settings", func(f *facts) { f.settings.synchronousCommit = "off" }, Fault,
		`synchronous_commit is off: a crash loses what was answered: run: alter role "app" set synchronous_commit = on`},
	{"settings", func(f *facts) { f.settings.fullPageWrites = false }, Warning,
		"full_page_writes is off: a crash of the machine can damage pages: turn it on, unless the file system writes pages as a whole"},
	{"settings", func(f *facts) { f.settings.autovacuum = false }, Warning, "autovacuum is off: the tables grow without end: run: alter system set autovacuum = on"},
	{"settings", func(f *facts) { f.settings.sharedBuffers = 128 << 20 }, Warning, "shared_buffers is 128 MB: set it to a quarter of the memory if streams have one message per key"},
	{"bloat", func(f *facts) { f.usage.Tables[1].Dead = 3_000_001 }, Warning,
		"table ops has 3000001 dead rows and 3000000 live ones: end the oldest transaction if it is old, else let autovacuum work faster: lower autovacuum_vacuum_cost_delay"},
	{"oldest", func(f *facts) {
		f.usage.Oldest = OldestTransaction{"transaction", "17", "psql", "bob", "idle in transaction", 301 * time.Second, 9}
	}, Warning, `the oldest transaction, of pid 17, application "psql", role bob, goes on for 5m1s: idle in transaction: tables grow while it goes on: run: select pg_terminate_backend(17)`},
	{"oldest", func(f *facts) {
		f.usage.Oldest = OldestTransaction{Kind: "prepared transaction", ID: "it's", Role: "bob", Age: time.Hour}
	}, Warning,
		"prepared transaction it's of role bob, since 1h0m0s: run: rollback prepared 'it''s', or commit it"},
	{"oldest", func(f *facts) {
		f.usage.Oldest = OldestTransaction{Kind: "replication slot", ID: "s1", Transactions: 1_000_001}
	}, Warning, "replication slot s1 is 1000001 transactions behind: let its standby catch up, or run: select pg_drop_replication_slot('s1')"},
	{"oldest", func(f *facts) { f.seesOthers = false }, OK, "no transaction is open (of those that role app may see: grant pg_read_all_stats for all)"},
}

// TestEachFindingSaysWhatToDo changes one fact at a time. Nothing but the finding about it may change.
func TestEachFindingSaysWhatToDo(t *testing.T) {
	for _, tt := range changedFacts {
		f := healthy()
		tt.change(&f)
		found := false
		for _, got := range f.findings() {
			text := got.Text
			if got.Advice != "" {
				text += ": " + got.Advice
			}
			if got.Name == tt.name {
				found = true
				require.Equal(t, tt.want, text)
				require.Equal(t, tt.level, got.Level, text)
				continue
			}
			require.Equal(t, OK, got.Level, "%s: %s", tt.want, text)
		}
		require.True(t, found, tt.want)
	}
	f := healthy()
	for _, got := range f.findings() {
		require.Equal(t, OK, got.Level, got.Text)
		require.Empty(t, got.Advice)
	}
}

// diagnosed returns the finding of a name as one text.
func diagnosed(t *testing.T, url, schema, name string) string {
	t.Helper()
	d, err := Diagnose(t.Context(), url, Options{Schema: schema})
	require.NoError(t, err)
	for _, f := range d.Findings {
		if f.Name == name {
			return strings.Join([]string{string(f.Level), f.Text, f.Advice}, ": ")
		}
	}
	t.Fatalf("no finding %s", name)
	return ""
}

func TestADiagnosisSeesTheRightsOfTheRole(t *testing.T) {
	schema := newSchema(t)
	role := "d_" + schema
	execute(t, "create role "+role+" login connection limit 5")
	t.Cleanup(func() { execute(t, "drop owned by "+role+"; drop role "+role) })
	url := as(role)
	require.Contains(t, diagnosed(t, url, schema, "rights"), "fault: role "+role+" must not make the schema")
	require.Contains(t, diagnosed(t, url, schema, "schema"), "ok: "+schema+" is not there yet")
	require.Contains(t, diagnosed(t, url, schema, "connections"), "fault: the role or the database may have 5, and a replica uses up to 17")
	require.Contains(t, diagnosed(t, databaseURL, schema, "rights"), "may make the schema")

	before, err := Migrate(t.Context(), databaseURL, Options{Schema: schema})
	require.NoError(t, err)
	require.Zero(t, before.Found)
	require.Equal(t, fmt.Sprintf("fault: role %s must not see %s: see rights", role, schema), diagnosed(t, url, schema, "schema"))
	require.Contains(t, diagnosed(t, url, schema, "rights"), "must not use the schema")
	quoted := pgx.Identifier{schema}.Sanitize()
	execute(t, "grant usage on schema "+quoted+" to "+role)
	require.Contains(t, diagnosed(t, url, schema, "rights"), "lacks rights on chunks, consumer_heads, consumers and ")
	execute(t, "grant select, insert, update, delete on all tables in schema "+quoted+" to "+role)
	require.Contains(t, diagnosed(t, url, schema, "rights"), "ok: role "+role+" has what the store needs")
	execute(t, "update "+quoted+".schema_version set version = version - 1")
	require.Contains(t, diagnosed(t, url, schema, "rights"), `does not own the schema, and so cannot bring it up to date: run "sequin migrate up" with the role that owns it`)
}

// as returns the URL for another role.
func as(role string) string { return databaseURL + "&user=" + role }

// TestADiagnosisSeesAnOpenTransaction also reads the usage as the metrics do.
func TestADiagnosisSeesAnOpenTransaction(t *testing.T) {
	st := openWith(t, Options{})
	conn, err := pgx.Connect(t.Context(), databaseURL+"&application_name=hog")
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "begin isolation level repeatable read; select pg_current_xact_id()")
	require.NoError(t, err)
	u, err := st.Usage(t.Context())
	require.NoError(t, err)
	require.Equal(t, "transaction", u.Oldest.Kind)
	require.Equal(t, "hog", u.Oldest.Application)
	require.NotEmpty(t, u.Oldest.Role)
	require.Equal(t, "idle in transaction", u.Oldest.State)
	require.Contains(t, diagnosed(t, databaseURL, st.options.Schema, "oldest"), fmt.Sprintf("of pid %d, application %q", conn.PgConn().PID(), "hog"))
	tables := map[string]TableUsage{}
	for _, table := range u.Tables {
		tables[table.Name] = table
	}
	require.Positive(t, tables["chunks"].Bytes)
	require.Contains(t, tables, "schema_version")
	pool := st.PoolStats()
	require.Equal(t, defaultConns, pool.Max)
	require.Positive(t, pool.Acquired)
	require.Positive(t, pool.Opened)
}

func TestADiagnosisOfADatabaseThatCannotBeAsked(t *testing.T) {
	_, err := Diagnose(t.Context(), "postgres://u:secret@127.0.0.1:1/d", Options{})
	require.ErrorIs(t, err, ErrUnreachable)
	require.NotContains(t, err.Error(), "secret")
	require.NotContains(t, err.Error(), "\n")
	requirePostgres(t)
	_, err = Diagnose(t.Context(), as("nobody"), Options{})
	require.ErrorContains(t, err, "check the user")
	require.NotErrorIs(t, err, ErrUnreachable)
}

// TestAStandbyIsRefused uses a real one.
func TestAStandbyIsRefused(t *testing.T) {
	primary, err := newCluster()
	if errors.Is(err, pgcluster.ErrNotInstalled) {
		requirePostgres(t)
		t.Skip(err)
	}
	require.NoError(t, err)
	defer primary.Close()
	st, err := Open(t.Context(), primary.URL(), Options{})
	require.NoError(t, err)
	require.NoError(t, st.Close())
	standby, err := primary.NewStandby()
	require.NoError(t, err)
	defer standby.Close()
	require.NoError(t, standby.Run())

	const want = "it is a standby or read-only: use the URL of the primary"
	_, err = Open(t.Context(), standby.URL(), Options{})
	require.ErrorContains(t, err, want)
	_, err = Migrate(t.Context(), standby.URL(), Options{})
	require.ErrorContains(t, err, want)
	require.Contains(t, diagnosed(t, standby.URL(), "", "primary"), "fault: it is a standby or read-only: use the URL of the primary")
	v, err := ReadSchemaVersion(t.Context(), standby.URL(), Options{})
	require.NoError(t, err)
	require.Equal(t, v.Known, v.Found)
}

func TestMigrateRefusesANewerSchema(t *testing.T) {
	schema := newSchema(t)
	o := Options{Schema: schema}
	for _, want := range []int{0, len(migrations)} {
		before, err := Migrate(t.Context(), databaseURL, o)
		require.NoError(t, err)
		require.Equal(t, want, before.Found)
		require.Equal(t, len(migrations), before.Known)
	}
	execute(t, fmt.Sprintf("update %s.schema_version set version = 99", schema))
	_, err := Migrate(t.Context(), databaseURL, o)
	require.ErrorContains(t, err, "upgrade this program")
	v, err := ReadSchemaVersion(t.Context(), databaseURL, o)
	require.NoError(t, err)
	require.Equal(t, 99, v.Found)
	require.Contains(t, diagnosed(t, databaseURL, schema, "schema"), "fault: "+schema+" has version 99")
}
