package postgres

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// findings judges the facts. Those of a server that is too old are about its version alone.
func (f *facts) findings() []Finding {
	if f.version < minVersion {
		return []Finding{f.versionFinding()}
	}
	all := []Finding{f.versionFinding(), f.primaryFinding(), f.roundTripFinding()}
	if f.pooler {
		all = append(all, Finding{"pooler", Warning, "a pooler is in front of the database",
			"name the database itself in the URL: through a pooler, waiting receives hear of messages of other servers within 300 ms"})
	}
	all = append(all, f.connectionsFinding(), f.schemaFinding(), f.rightsFinding())
	all = append(all, f.settingsFindings()...)
	return append(all, f.bloatFinding(), f.oldestFinding())
}

func (f *facts) versionFinding() Finding {
	if f.version < minVersion {
		return Finding{"version", Fault, "Postgres " + f.readable, "the store needs 15 or newer: upgrade it"}
	}
	return Finding{"version", OK, "Postgres " + f.readable, ""}
}

func (f *facts) primaryFinding() Finding {
	if f.standby {
		return Finding{"primary", Fault, "it is a standby or read-only", "use the URL of the primary"}
	}
	return Finding{"primary", OK, "it takes writes", ""}
}

// slowRoundTrip is far above that of a network in one place. A publish and a receive take two round trips each.
const slowRoundTrip = 5 * time.Millisecond

func (f *facts) roundTripFinding() Finding {
	text := fmt.Sprintf("%.1f ms", float64(f.roundTrip.Microseconds())/1000)
	if f.roundTrip > slowRoundTrip {
		return Finding{"round trip", Warning, text, "run the servers near the database: each request takes two round trips"}
	}
	return Finding{"round trip", OK, text, ""}
}

func (f *facts) connectionsFinding() Finding {
	c := f.connections
	text := fmt.Sprintf("%d of %d are used, %d of them by this store; a replica uses up to %d", c.used, c.server, c.own, f.needed)
	switch {
	case c.allowed < f.needed && c.allowed < c.server:
		return Finding{"connections", Fault, fmt.Sprintf("the role or the database may have %d, and a replica uses up to %d", c.allowed, f.needed),
			"raise their connection limit, or lower pool_max_conns in the URL"}
	case c.allowed < f.needed:
		return Finding{"connections", Fault, fmt.Sprintf("the server allows %d, and a replica uses up to %d", c.allowed, f.needed),
			"raise max_connections, or lower pool_max_conns in the URL"}
	case c.used+f.needed > c.server:
		return Finding{"connections", Warning, text, "there is no room for another replica: raise max_connections, or lower pool_max_conns in the URL"}
	}
	return Finding{"connections", OK, text, ""}
}

func (f *facts) schemaFinding() Finding {
	text := fmt.Sprintf("%s has version %d of %d", f.schema, f.found, f.known)
	switch {
	case f.found == unreadable:
		return Finding{"schema", Fault, fmt.Sprintf("role %s must not see %s", f.role, f.schema), "see rights"}
	case f.found > f.known:
		return Finding{"schema", Fault, fmt.Sprintf("%s has version %d, this program knows %d", f.schema, f.found, f.known), "upgrade this program"}
	case f.found == 0:
		return Finding{"schema", OK, f.schema + ` is not there yet: the first server makes it, or "sequin migrate up"`, ""}
	case f.found < f.known:
		return Finding{"schema", Warning, text, `the next server that starts brings it up to date, or "sequin migrate up"`}
	}
	return Finding{"schema", OK, text, ""}
}

func (f *facts) rightsFinding() Finding {
	r, role, schema := f.rights, pgx.Identifier{f.role}.Sanitize(), pgx.Identifier{f.schema}.Sanitize()
	switch {
	case len(r.functions) > 0:
		return Finding{"rights", Fault, fmt.Sprintf("role %s must not call %s", f.role, r.functions[0]),
			fmt.Sprintf("run: grant execute on function %s to %s", strings.Join(r.functions, ", "), role)}
	case f.found == 0 && !r.mayCreate:
		return Finding{"rights", Fault, fmt.Sprintf("role %s must not make the schema", f.role),
			fmt.Sprintf(`run "sequin migrate up" with a role that may, or run: grant create on database %s to %s`, pgx.Identifier{f.database}.Sanitize(), role)}
	case f.found == 0:
		return Finding{"rights", OK, fmt.Sprintf("role %s may make the schema", f.role), ""}
	case !r.mayUse || len(r.tables) > 0:
		text := fmt.Sprintf("role %s must not use the schema", f.role)
		if r.mayUse {
			text = fmt.Sprintf("role %s lacks rights on %s", f.role, list(r.tables))
		}
		return Finding{"rights", Fault, text,
			fmt.Sprintf("run: grant usage on schema %s to %s; grant select, insert, update, delete on all tables in schema %s to %s", schema, role, schema, role)}
	case f.found < f.known && !r.owner:
		return Finding{"rights", Fault, fmt.Sprintf("role %s does not own the schema, and so cannot bring it up to date", f.role),
			`run "sequin migrate up" with the role that owns it`}
	}
	return Finding{"rights", OK, fmt.Sprintf("role %s has what the store needs", f.role), ""}
}

// list names the first of some tables, and how many more there are.
func list(tables []string) string {
	const most = 3
	if len(tables) <= most {
		return strings.Join(tables, ", ")
	}
	return fmt.Sprintf("%s and %d more tables", strings.Join(tables[:most], ", "), len(tables)-most)
}

// smallBuffers is the default of shared_buffers.
const smallBuffers = 128 << 20

func (f *facts) settingsFindings() (all []Finding) {
	s := f.settings
	add := func(bad bool, level Level, text, advice string) {
		if bad {
			all = append(all, Finding{"settings", level, text, advice})
		}
	}
	add(!s.fsync, Fault, "fsync is off: a crash of the machine can destroy the database", "run: alter system set fsync = on")
	add(s.synchronousCommit == "off", Fault, "synchronous_commit is off: a crash loses what was answered",
		"run: alter role "+pgx.Identifier{f.role}.Sanitize()+" set synchronous_commit = on")
	add(!s.fullPageWrites, Warning, "full_page_writes is off: a crash of the machine can damage pages",
		"turn it on, unless the file system writes pages as a whole")
	add(!s.autovacuum, Warning, "autovacuum is off: the tables grow without end", "run: alter system set autovacuum = on")
	add(s.sharedBuffers <= smallBuffers, Warning, fmt.Sprintf("shared_buffers is %d MB", s.sharedBuffers>>20),
		"set it to a quarter of the memory if streams have one message per key")
	if len(all) == 0 {
		all = []Finding{{"settings", OK, "fsync, synchronous_commit, full_page_writes, autovacuum and shared_buffers are as they should be", ""}}
	}
	return all
}

// manyDead is how many dead rows a table may have for a while under load: autovacuum looks once a minute.
const manyDead = 1_000_000

func (f *facts) bloatFinding() Finding {
	var bytes, dead int64
	var worst TableUsage
	for _, t := range f.usage.Tables {
		bytes, dead = bytes+t.Bytes, dead+t.Dead
		if t.Dead > worst.Dead {
			worst = t
		}
	}
	if worst.Dead > manyDead && worst.Dead > worst.Live {
		return Finding{"bloat", Warning, fmt.Sprintf("table %s has %d dead rows and %d live ones", worst.Name, worst.Dead, worst.Live),
			"end the oldest transaction if it is old, else let autovacuum work faster: lower autovacuum_vacuum_cost_delay"}
	}
	return Finding{"bloat", OK, fmt.Sprintf("the tables take %.1f MB, with %d dead rows", float64(bytes)/1e6, dead), ""}
}

const (
	// oldTransaction is how long a transaction may go on before it is warned of. Dead rows pile up behind it.
	oldTransaction = 5 * time.Minute
	// manyTransactions is how far a replication slot, whose age is not known, may lag.
	manyTransactions = 1_000_000
)

func (f *facts) oldestFinding() Finding {
	o := f.usage.Oldest
	text := o.String()
	if !f.seesOthers {
		text += fmt.Sprintf(" (of those that role %s may see: grant pg_read_all_stats for all)", f.role)
	}
	switch {
	case o.Kind == "replication slot" && o.Transactions > manyTransactions:
		return Finding{"oldest", Warning, text, "let its standby catch up, or run: select pg_drop_replication_slot('" + quote(o.ID) + "')"}
	case o.Kind == "prepared transaction" && o.Age > oldTransaction:
		return Finding{"oldest", Warning, text, "run: rollback prepared '" + quote(o.ID) + "', or commit it"}
	case o.Age > oldTransaction:
		return Finding{"oldest", Warning, text, "tables grow while it goes on: run: select pg_terminate_backend(" + o.ID + ")"}
	}
	return Finding{"oldest", OK, text, ""}
}

// quote escapes a text for a literal in SQL.
func quote(text string) string { return strings.ReplaceAll(text, "'", "''") }

// String describes the transaction to a person.
func (o OldestTransaction) String() string {
	switch o.Kind {
	case "":
		return "no transaction is open"
	case "replication slot":
		return fmt.Sprintf("replication slot %s is %d transactions behind", o.ID, o.Transactions)
	case "prepared transaction":
		return fmt.Sprintf("prepared transaction %s of role %s, since %v", o.ID, o.Role, o.Age.Round(time.Second))
	}
	return fmt.Sprintf("the oldest transaction, of pid %s, application %q, role %s, goes on for %v: %s", o.ID, o.Application, o.Role, o.Age.Round(time.Second), o.State)
}
