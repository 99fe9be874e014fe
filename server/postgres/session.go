package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sequin-go/sequin/server/internal/store"
)

// attemptTimeout bounds one attempt at a transaction. It is far above what one takes, so that it ends only those whose
// database hangs.
const attemptTimeout = 30 * time.Second

// session is a connection in use.
type session struct {
	st    *Store
	conn  *pgxpool.Conn
	epoch int64 // of the database when the connection was taken
	ctx   context.Context
	done  context.CancelFunc
}

// acquire takes a connection for one attempt. ctx ends the attempt.
func (st *Store) acquire(ctx context.Context) (*session, error) {
	if st.ctx.Err() != nil {
		return nil, store.ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	conn, err := st.pool.Acquire(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &session{st, conn, st.epoch.Load(), ctx, cancel}, nil
}

// release gives the connection back. A transaction that is open is rolled back.
func (s *session) release() {
	if s.conn.Conn().PgConn().TxStatus() != 'I' && !s.conn.Conn().IsClosed() {
		_, _ = s.conn.Exec(s.ctx, "rollback")
	}
	s.conn.Release() // closes a connection that is still in a transaction
	s.done()
}

// send sends statements in one round trip. It returns the first error.
func (s *session) send(b *pgx.Batch) error { return s.conn.SendBatch(s.ctx, b).Close() }

// begin starts a batch with the start of a transaction. Its commit does not wait for the disk: flush does.
func begin() *pgx.Batch {
	b := beginOnly()
	b.Queue("set local synchronous_commit = off")
	return b
}

// beginOnly starts a batch as begin does. The statement that takes the lock keeps the commit from waiting.
func beginOnly() *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue("begin isolation level read committed")
	return b
}

// commit ends a batch with the end of a transaction and a flush of all that was committed before. The flush is a
// transaction that does nothing but wait for the disk. The locks are free while it waits.
func commit(b *pgx.Batch) {
	b.Queue("commit")
	b.Queue(flushStatement)
}

const flushStatement = "select pg_logical_emit_message(true, 'sequin', '')"

// flush waits until all that is visible is on disk.
func (s *session) flush() error {
	_, err := s.conn.Exec(s.ctx, flushStatement)
	return err
}

// query calls f with a connection, again and again while the errors are transient, until ctx ends or the time to retry is
// over. f must change nothing, or be one that can be repeated.
func (st *Store) query(ctx context.Context, f func(s *session) error) error {
	return st.retry(ctx, func() error {
		s, err := st.acquire(ctx)
		if err != nil {
			return err
		}
		defer s.release()
		return f(s)
	})
}

// retry calls f until it succeeds, its error is not transient, ctx or the store has ended, or the time is over.
func (st *Store) retry(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	deadline := time.Now().Add(st.options.RetryFor)
	wait := backoff{}
	for {
		err := f()
		switch {
		case err == nil || isOwn(err):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case st.ctx.Err() != nil:
			return store.ErrClosed
		case errors.Is(err, pgx.ErrNoRows):
			return err
		case !isTransient(err) || time.Now().After(deadline) || !wait.next(ctx):
			return storeError(err)
		}
	}
}

// now reads the clock in a batch. The answer is there when the batch was sent.
func (st *Store) queueNow(b *pgx.Batch, now *int64) {
	if st.options.now != nil {
		*now = st.options.now()
		return
	}
	b.Queue("select (extract(epoch from clock_timestamp()) * 1000000)::bigint").QueryRow(func(row pgx.Row) error { return row.Scan(now) })
}
