package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Options are the settings of a store. The zero value has the defaults.
type Options struct {
	// Schema holds the tables; default "sequin". Stores with different schemas know nothing of each other.
	Schema string
	// MaxConns limits the connections of this replica, one for LISTEN not counted; default pool_max_conns of the URL, else
	// 16. At least 2.
	MaxConns int
	// ListenURL is where to LISTEN when the URL leads to a pooler such as PgBouncer, which cannot in its transaction mode: the
	// address of the database itself. Default: the URL, or "-" when it leads to a pooler. "-" does without: waiting receives then
	// look every 300 ms.
	ListenURL string
	// RetryFor is how long an operation is tried again while the database cannot be reached or is restarted; default 15 s.
	RetryFor time.Duration
	// Logger gets what an operator should know; default: nothing.
	Logger *slog.Logger

	now        func() int64             // microseconds; nil is the database's clock
	lookEvery  time.Duration            // of a waiting receive; default 300 ms
	cleanEvery time.Duration            // default 1 s; negative for never
	moveEvery  time.Duration            // default 100 ms; negative for never
	sayAfter   time.Duration            // when an operator is told that a copy waits for transactions; default 2 s
	maxMet     int                      // default backlog.MaxMet
	maxSends   int                      // default rememberMost
	pooler     bool                     // the URL leads to a pooler, as Open finds out
	fault      func(point string) error // called when a transaction is stored; an error is that of a lost connection
}

const (
	defaultSchema = "sequin"
	// defaultConns serves the requests of one replica. A transaction takes about a millisecond of a connection.
	defaultConns = 16
	// lookEvery is how late a message is found when its notification is lost.
	lookEvery = 300 * time.Millisecond
	// cleanEvery is how often the janitor looks for what can be deleted.
	cleanEvery = time.Second
	// retryFor is longer than a restart of Postgres usually takes.
	retryFor = 15 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Schema == "" {
		o.Schema = defaultSchema
	}
	if o.RetryFor == 0 {
		o.RetryFor = retryFor
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	}
	if o.lookEvery == 0 {
		o.lookEvery = lookEvery
	}
	if o.cleanEvery == 0 {
		o.cleanEvery = cleanEvery
	}
	if o.moveEvery == 0 {
		o.moveEvery = moveEvery
	}
	if o.sayAfter == 0 {
		o.sayAfter = 2 * time.Second
	}
	if o.maxMet == 0 {
		o.maxMet = maxMet
	}
	if o.maxSends == 0 {
		o.maxSends = rememberMost
	}
	if o.fault == nil {
		o.fault = func(string) error { return nil }
	}
	return o
}

// Store is a store on Postgres. It starts a goroutine that listens, and one that deletes what is no longer needed. Close
// ends them.
type Store struct {
	options Options
	id      string
	schema  string // quoted
	pool    *pgxpool.Pool
	chunks  *chunkCache
	run     atomic.Pointer[string] // tells one run of the database from the next, see connected
	epoch   atomic.Int64           // how many runs were seen

	streams   registry[*publisher]
	consumers registry[*engine]
	wake      *waker

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup // goroutines
	close  sync.Once
	capAt  time.Time // when the janitor counts sends again

	starting sync.Mutex // guards closed
	closed   bool       // no goroutine may start
}

var _ store.Store = (*Store)(nil)

// Open opens the store in a database, which may be empty, and makes the schema or brings it up to date. ctx bounds the
// opening. The errors are one line that says what to do.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	o = o.withDefaults()
	cfg, err := poolConfig(url, &o)
	if err != nil {
		return nil, err
	}
	id, err := prepare(ctx, cfg, &o)
	if err != nil {
		return nil, err
	}
	st := &Store{options: o, id: id, schema: quoted(o.Schema), chunks: newChunkCache(chunkCacheBytes)}
	if o.pooler {
		st.chunks.max = 0 // behind a pooler no connection is lost when the database is restarted: see connected
	}
	st.streams.init()
	st.consumers.init()
	cfg.AfterConnect = st.connected
	if st.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg); err != nil {
		return nil, openFailed(cfg.ConnConfig, err)
	}
	st.ctx, st.cancel = context.WithCancel(context.Background())
	st.wake = newWaker(st)
	st.wake.start(url)
	st.startJanitor()
	st.startMover()
	return st, nil
}

// connected is called for each new connection. When the database runs anew it may have lost what was read before it was
// flushed. All connections of the run before are lost too, so that this is the moment to forget it.
func (st *Store) connected(ctx context.Context, conn *pgx.Conn) error {
	var run string
	if err := conn.QueryRow(ctx, runQuery).Scan(&run); err != nil {
		return err
	}
	if old := st.run.Swap(&run); old == nil || *old != run {
		st.epoch.Add(1)
		st.chunks.clear()
	}
	return nil
}

// runQuery is different after every restart, after the recovery from a crash, and on another server.
const runQuery = `select pg_postmaster_start_time()::text || ' ' || coalesce(pg_stat_get_bgwriter_stat_reset_time()::text, '')
	|| ' ' || (select timeline_id::text || ' ' || system_identifier::text from pg_control_checkpoint(), pg_control_system())`

// ID implements store.Store.
func (st *Store) ID() string { return st.id }

// Where describes to a person where the messages are, without the password.
func (st *Store) Where() string {
	cfg := st.pool.Config().ConnConfig
	return fmt.Sprintf("Postgres at %s, database %s, schema %s", address(cfg), cfg.Database, st.options.Schema)
}

// Probe implements store.Store: the database answers.
func (st *Store) Probe(ctx context.Context) error {
	if st.ctx.Err() != nil {
		return store.ErrClosed
	}
	if err := st.pool.Ping(ctx); err != nil {
		return errors.Join(store.ErrFailed, err)
	}
	return nil
}

// Close ends every wait and closes the connections. It cuts off what runs: a change then returns an error that is ErrUnknown
// or ErrClosed.
func (st *Store) Close() error {
	st.close.Do(func() {
		st.cancel()
		st.wake.stop()
		for _, e := range st.consumers.all() {
			e.places.close()
		}
		st.starting.Lock()
		st.closed = true
		st.starting.Unlock()
		st.tasks.Wait()
		st.pool.Close()
	})
	return nil
}

// spawn runs f on a goroutine that Close waits for. It returns false after Close.
func (st *Store) spawn(f func()) bool {
	st.starting.Lock()
	defer st.starting.Unlock()
	if st.closed || st.ctx.Err() != nil {
		return false
	}
	st.tasks.Go(f)
	return true
}
