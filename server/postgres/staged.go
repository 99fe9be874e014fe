package postgres

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
)

const (
	// moveEvery is how often a replica looks for what transactions have left.
	moveEvery = 100 * time.Millisecond
	// moveRows is how many rows one transaction moves.
	moveRows = 500
)

const (
	// takeStagedSQL takes the oldest rows of a stream, at least one, up to $2 rows and about $3 bytes. It runs under the lock of
	// the stream's head: two replicas that took rows at once would swap the versions of a key.
	takeStagedSQL = `delete from {s}.staged where id in (
			select id from (
				select id, sum(bytes) over (order by id) - bytes as before
				from (select id, bytes from {s}.staged where stream_id = $1 order by id limit $2) oldest
			) sized where before < $3
		) returning id, n, keys, data`
	stagedStreamsSQL = `select ` + streamColumns + ` from {s}.streams where id in (select stream_id from {s}.staged)`
)

// startMover starts the goroutine that sends what transactions have left.
func (st *Store) startMover() {
	failures := moveFailures{log: st.options.Logger}
	st.every(st.options.moveEvery, func() {
		if err := st.moveAll(); st.ctx.Err() == nil {
			failures.note(time.Now(), err)
		}
	})
}

// moveFailures logs when a mover begins to fail, once a minute while it fails, and when it works again: a stream may be full for
// hours.
type moveFailures struct {
	log     *slog.Logger
	failing bool
	next    time.Time // when the next failure is logged
}

// note notes the end of a move.
func (f *moveFailures) note(now time.Time, err error) {
	switch {
	case err == nil && f.failing:
		f.failing, f.next = false, time.Time{}
		f.log.Info("the messages of SendTx are sent again")
	case err != nil && !now.Before(f.next):
		f.failing, f.next = true, now.Add(time.Minute)
		f.log.Warn("messages of SendTx are not sent yet; it is tried again", "error", oneLine(err))
	}
}

// moveAll sends what was left for all streams. A stream that refuses does not keep back the others.
func (st *Store) moveAll() error {
	var rows []streamRow
	err := st.query(st.ctx, func(s *session) error {
		found, err := s.conn.Query(s.ctx, st.q(stagedStreamsSQL))
		if err != nil {
			return err
		}
		rows = nil
		var row streamRow
		_, err = pgx.ForEachRow(found, row.fields(), func() error { rows = append(rows, row); return nil })
		return err
	})
	for _, row := range rows {
		if moveErr := st.move(st.ctx, row); !errors.Is(moveErr, store.ErrNoStream) {
			err = errors.Join(err, moveErr)
		}
	}
	return err
}

// Flush sends at once what committed transactions have left for a stream with SendTx, named by its name or id. When it
// returns nil the messages of all transactions that committed before the call are sent. It may be called concurrently.
func (st *Store) Flush(ctx context.Context, stream string) error {
	var row streamRow
	err := st.query(ctx, func(s *session) (err error) {
		row, err = st.findStream(s, stream)
		return err
	})
	if err != nil {
		return err
	}
	return st.move(ctx, row)
}

// move sends what was left for a stream until nothing is.
func (st *Store) move(ctx context.Context, row streamRow) error { return st.moveFor(ctx, row, false) }

// moveFor is move. With forCopy it is for a stream that is being copied, where all else is refused.
func (st *Store) moveFor(ctx context.Context, row streamRow, forCopy bool) error {
	for {
		x := &sending{staged: true, forCopy: forCopy, done: make(chan struct{})}
		st.publisherOf(row).publish([]*sending{x})
		if x.err != nil || len(x.messages) == 0 {
			return x.err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
}

// takeStaged makes what was left for the stream the messages of a send. Of a bounded stream it is one row, because it may be
// refused.
func (t *publishing) takeStaged(x *sending) error {
	limit := moveRows
	if t.p.stream.MaxBytes > 0 {
		limit = 1
	}
	rows, err := t.s.conn.Query(t.s.ctx, t.p.st.q(takeStagedSQL), t.p.stream.id, limit, groupBytes)
	if err != nil {
		return err
	}
	type part struct {
		id       int64
		messages []store.Message
	}
	var parts []part
	var id int64
	var n int
	var keys, data []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &n, &keys, &data}, func() error {
		c, err := decodeChunk(t.p.stream.id, id, n, 0, keys, data)
		if err == nil {
			parts = append(parts, part{id, c.messages})
		}
		return err
	})
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.id, b.id) })
	x.messages, x.token = nil, uuid.Nil
	for _, p := range parts {
		x.messages = append(x.messages, p.messages...)
	}
	return err
}
