package server

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/internal/sink"
)

// SinkOptions are the options of a sink. The zero value works.
type SinkOptions struct {
	// Table is the table whose changes the sink delivers, "schema.table"; default "public." and the sink's name. A name
	// without a schema is in the schema public.
	Table string
	// PrimaryKey are the columns of the primary key, in their order; default "id".
	PrimaryKey []string
	// AckWait is how long a delivered change may stay unsettled; default 30 s.
	AckWait time.Duration
	// StartUp is how long receives are answered 500 after RestartSinks; default 0.
	StartUp time.Duration
	// ID is the id of the sink; default a random one.
	ID string
	// Database is what the metadata of the changes says about the source; by default it has the name "postgres".
	Database SinkDatabase
}

// SinkDatabase describes the database of a sink.
type SinkDatabase struct {
	ID       string // default a random one
	Name     string // in Sequin; default "postgres"
	Hostname string // default "localhost"
	Database string // in Postgres; default Name
}

// Sink is a sink of the kind sequin_stream of a released Sequin: changes of the rows of a table, which clients pull and
// settle. It emulates a Sequin of February 2026, after v0.14.6, for tests, so that they need no Postgres. Its changes come
// from the program and are lost with the Server. Its methods may be called concurrently.
//
// A message that is delivered keeps its ack id when it is delivered again. Of each row at most one change is outstanding.
// While any change of the sink is outstanding, a receive with a wait_for answers at once, even with nothing. There is no
// limit of outstanding changes.
type Sink struct {
	name, schema, table string
	options             SinkOptions
	queue               *sink.Queue

	mu       sync.Mutex
	full     bool // REPLICA IDENTITY FULL
	lsn      int64
	disabled bool
	started  time.Time // when it was restarted, plus StartUp
}

// sinks are the sinks of a server. The zero value has none.
type sinks struct {
	mu  sync.Mutex
	all []*Sink
}

// Sink adds a sink. A server with a sink answers the routes below /api/sequin_streams, the same ones below
// /api/http_pull_consumers, and /api/sinks/NAME. Its streams work as before, unless Config.SinksOnly is set. It panics if the
// server has a sink of that name, or if it is not in the documented mode.
func (s *Server) Sink(name string, o SinkOptions) *Sink {
	if s.dialect.plug {
		panic("server: a server in the mode Aug2024 has no sinks")
	}
	if name == "" {
		panic("server: a sink needs a name")
	}
	o.Table = cmp.Or(o.Table, name)
	schema, table, ok := strings.Cut(o.Table, ".")
	if !ok {
		schema, table = "public", o.Table
	}
	if len(o.PrimaryKey) == 0 {
		o.PrimaryKey = []string{"id"}
	}
	o.AckWait = cmp.Or(o.AckWait, 30*time.Second)
	o.ID = cmp.Or(o.ID, uuid.NewString())
	o.Database.ID = cmp.Or(o.Database.ID, uuid.NewString())
	o.Database.Name = cmp.Or(o.Database.Name, "postgres")
	o.Database.Hostname = cmp.Or(o.Database.Hostname, "localhost")
	o.Database.Database = cmp.Or(o.Database.Database, o.Database.Name)
	added := &Sink{name: name, schema: schema, table: table, options: o, queue: sink.New(o.AckWait)}
	s.sinks.add(added)
	return added
}

func (s *sinks) add(added *Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.search(added.name) != nil {
		panic(fmt.Sprintf("server: there is a sink %q", added.name))
	}
	s.all = append(s.all, added)
}

// find returns the sink with that name or id, or nil.
func (s *sinks) find(nameOrID string) *Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.search(nameOrID)
}

func (s *sinks) search(nameOrID string) *Sink {
	for _, sink := range s.all {
		if sink.name == nameOrID || strings.EqualFold(sink.options.ID, nameOrID) {
			return sink
		}
	}
	return nil
}

// list returns the sinks in the order in which they were added.
func (s *sinks) list() []*Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Sink(nil), s.all...)
}

// RestartSinks does to all sinks what a restart of a Sequin server does. Unsettled changes are delivered again at once, with
// new ack ids, and so are those that were acked in the last 10 seconds. A settle with an old ack id succeeds and does
// nothing. Receives are answered 500 during SinkOptions.StartUp. Streams and connections are left alone.
func (s *Server) RestartSinks() {
	for _, k := range s.sinks.list() {
		k.restart()
	}
}

func (k *Sink) restart() {
	now := time.Now()
	k.mu.Lock()
	k.started = now.Add(k.options.StartUp)
	k.mu.Unlock()
	k.queue.Restart(now)
}

// starting reports whether the sink is not up yet after a restart.
func (k *Sink) starting(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Before(k.started)
}

// status returns the status as the management API shows it.
func (k *Sink) status() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.disabled {
		return "disabled"
	}
	return "active"
}

// setDisabled disables or enables the sink. A disabled one still delivers; it is restarted when it is enabled again, as in
// the recording.
func (k *Sink) setDisabled(disabled bool) {
	k.mu.Lock()
	enabled := k.disabled && !disabled
	k.disabled = disabled
	k.mu.Unlock()
	if enabled {
		k.restart()
	}
}

// Name returns the name of the sink.
func (k *Sink) Name() string { return k.name }

// ID returns the id of the sink.
func (k *Sink) ID() string { return k.options.ID }

// SinkState counts the changes that a sink holds. It is zero when all are acked.
type SinkState struct {
	Available   int // changes that a receive could get now
	Blocked     int // changes that wait for an earlier one of their row
	Outstanding int // changes that are delivered, and neither settled nor expired
}

// State counts what the sink holds.
func (k *Sink) State() SinkState { return SinkState(k.queue.State(time.Now())) }

// SetReplicaIdentityFull says whether the table has REPLICA IDENTITY FULL; it has not at first. Without it, Postgres tells
// nothing but the primary key of the row before an update or a delete: changes are empty, and a deleted record has nulls.
func (k *Sink) SetReplicaIdentityFull(full bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.full = full
}

// Insert commits the insert of a row. A record is anything whose JSON is an object with the columns of the primary key.
func (k *Sink) Insert(record any) error {
	return k.Commit(SinkChange{Action: "insert", Record: record})
}

// Update commits the update of a row, from before to after. before may be nil unless the table has REPLICA IDENTITY FULL.
func (k *Sink) Update(before, after any) error {
	return k.Commit(SinkChange{Action: "update", Record: after, Before: before})
}

// Delete commits the delete of a row.
func (k *Sink) Delete(record any) error {
	return k.Commit(SinkChange{Action: "delete", Record: record})
}

// Read adds a row as a back-fill does.
func (k *Sink) Read(record any) error { return k.Commit(SinkChange{Action: "read", Record: record}) }

// SinkChange is a change of a row.
type SinkChange struct {
	Action string // "insert", "update", "delete" or "read"
	Record any    // the row after the change; for a delete the one before it
	Before any    // the row before an update
}

// Commit commits changes in one transaction.
func (k *Sink) Commit(changes ...SinkChange) error {
	return k.CommitTransaction(SinkTransaction{Changes: changes})
}

// SinkTransaction is a transaction of the source database.
type SinkTransaction struct {
	LSN         int64     // the commit_lsn; default one that is larger than those before
	FirstIndex  int       // the commit_idx of the first change; default 0
	At          time.Time // when it was committed; default now
	Annotations any       // the transaction_annotations; default null
	Changes     []SinkChange
}

// CommitTransaction commits a transaction. It returns an error and commits nothing if a record is not an object with the
// primary key, or an action is unknown.
func (k *Sink) CommitTransaction(t SinkTransaction) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	// The queue gets the changes under the lock, in the order of their LSNs.
	t.LSN = cmp.Or(t.LSN, k.lsn+recordSize)
	if t.At.IsZero() {
		t.At = time.Now()
	}
	changes := make([]sink.Change, len(t.Changes))
	for i, c := range t.Changes {
		var err error
		if changes[i], err = k.change(t, t.FirstIndex+i, c, k.full); err != nil {
			return fmt.Errorf("server: sink %q: change %d: %w", k.name, i, err)
		}
	}
	k.lsn = max(k.lsn, t.LSN)
	k.queue.Add(changes)
	return nil
}

// recordSize is about the size of a commit in the write-ahead log of Postgres.
const recordSize = 128

var errAction = errors.New(`the action must be "insert", "update", "delete" or "read"`)
