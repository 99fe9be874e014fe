package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sequin-go/sequin/server/internal/store"
)

// streamRow is a row of streams.
type streamRow struct {
	id         int64
	uuid       uuid.UUID
	insertedAt int64
	copying    int16  // store.CopyState
	peer       string // of a copy
	store.StreamOptions
}

const streamColumns = `id, uuid, name, one_message_per_key, process_unmodified, max_bytes, retain_up_to, retain_at_least, inserted_at, copy_state, copy_peer`

func (r *streamRow) fields() []any {
	return []any{&r.id, &r.uuid, &r.Name, &r.OneMessagePerKey, &r.ProcessUnmodified, &r.MaxBytes, &r.RetainUpTo, &r.RetainAtLeast, &r.insertedAt, &r.copying, &r.peer}
}

func wallTime(microseconds int64) time.Time { return time.UnixMicro(microseconds) }

// isNameTaken reports whether a unique index refused a row.
func isNameTaken(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505"
}

// CreateStream implements store.Store.
func (st *Store) CreateStream(ctx context.Context, o store.StreamOptions) (store.Stream, error) {
	return st.createStream(ctx, streamRow{StreamOptions: o})
}

// createStream creates a stream. Its time is that of the row, or now.
func (st *Store) createStream(ctx context.Context, row streamRow) (store.Stream, error) {
	row.uuid = uuid.New()
	unknown := false
	err := st.query(ctx, func(s *session) error {
		if unknown { // did the attempt before take place?
			found, err := st.findStream(s, row.uuid.String())
			if err == nil {
				row = found
				return s.flush()
			}
			if !errors.Is(err, store.ErrNoStream) {
				return err
			}
		}
		if row.insertedAt == 0 {
			if err := st.readNow(s, &row.insertedAt); err != nil {
				return err
			}
		}
		unknown = true
		o := row.StreamOptions
		err := s.conn.QueryRow(s.ctx, st.q(`with s as (
				insert into {s}.streams (uuid, name, one_message_per_key, process_unmodified, max_bytes, retain_up_to, retain_at_least, inserted_at, copy_state, copy_peer)
				values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning id
			) insert into {s}.stream_heads (id, copy_state) select id, $9 from s returning id`),
			row.uuid, o.Name, o.OneMessagePerKey, o.ProcessUnmodified, o.MaxBytes, o.RetainUpTo, o.RetainAtLeast, row.insertedAt, row.copying, row.peer).Scan(&row.id)
		if isNameTaken(err) {
			return store.ErrNameTaken
		}
		return err
	})
	if err != nil {
		return nil, changeError(err, unknown)
	}
	return &stream{st, row}, nil
}

// changeError makes an error of a change that may have taken place ErrUnknown, unless the store refused it.
func changeError(err error, unknown bool) error {
	if unknown && (errors.Is(err, store.ErrFailed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return errors.Join(store.ErrUnknown, err)
	}
	return err
}

// readNow reads the clock.
func (st *Store) readNow(s *session, now *int64) error {
	b := &pgx.Batch{}
	st.queueNow(b, now)
	return s.send(b)
}

// findStream finds a stream by id or name. An id is preferred to a name that looks like one.
func (st *Store) findStream(s *session, ref string) (row streamRow, err error) {
	id, _ := uuid.Parse(ref)
	err = s.conn.QueryRow(s.ctx, st.q("select "+streamColumns+" from {s}.streams where uuid = $1 or name = $2 order by uuid = $1 desc limit 1"), id, ref).Scan(row.fields()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return row, store.ErrNoStream
	}
	return row, err
}

// Stream implements store.Store.
func (st *Store) Stream(ctx context.Context, ref string) (store.Stream, error) {
	var row streamRow
	err := st.query(ctx, func(s *session) (err error) {
		row, err = st.findStream(s, ref)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &stream{st, row}, nil
}

// Streams implements store.Store.
func (st *Store) Streams(ctx context.Context) (all []store.Stream, err error) {
	err = st.query(ctx, func(s *session) error {
		all = []store.Stream{}
		rows, err := s.conn.Query(s.ctx, st.q("select "+streamColumns+" from {s}.streams order by id desc"))
		if err != nil {
			return err
		}
		var row streamRow
		_, err = pgx.ForEachRow(rows, row.fields(), func() error {
			all = append(all, &stream{st, row})
			return nil
		})
		return err
	})
	return all, err
}

// stream is a store.Stream.
type stream struct {
	st  *Store
	row streamRow
}

var _ store.Stream = (*stream)(nil)

func (h *stream) ID() string { return h.row.uuid.String() }

// readTop reads the top of a stream.
func (st *Store) readTop(s *session, row streamRow) (top streamTop, err error) {
	b := &pgx.Batch{}
	top.queue(st, row, b)
	top.queueHead(st, row.id, b)
	err = s.send(b)
	st.chunks.purged(row.id, top.purges)
	return top, err
}

func (h *stream) Delete(ctx context.Context) error {
	attempted := false
	var gone []int64
	err := h.st.query(ctx, func(s *session) error {
		gone = nil
		b := begin()
		deleted := false
		b.Queue(h.st.q("delete from {s}.stream_heads where id = $1 returning id"), h.row.id).Query(func(rows pgx.Rows) error {
			deleted = rows.Next()
			return rows.Err()
		})
		b.Queue(h.st.q("insert into {s}.deleted_streams select $1 where not exists (select from {s}.stream_heads where id = $1) on conflict do nothing"), h.row.id)
		b.Queue(h.st.q("delete from {s}.streams where id = $1"), h.row.id)
		var id int64
		b.Queue(h.st.q("with c as (delete from {s}.consumers where stream_id = $1 returning id), d as (insert into {s}.deleted_consumers select id from c on conflict do nothing) select id from c"), h.row.id).Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&id}, func() error { gone = append(gone, id); return nil })
			return err
		})
		b.Queue(h.st.q("delete from {s}.consumer_heads where id in (select id from {s}.deleted_consumers)"))
		commit(b)
		if err := s.send(b); err != nil {
			attempted = true
			return err
		}
		if !deleted && !attempted {
			return store.ErrNoStream
		}
		return nil
	})
	if err != nil {
		return changeError(err, attempted)
	}
	h.st.wake.streamChanged(h.row.id)
	for _, id := range gone {
		h.st.wake.consumerChanged(id)
	}
	return nil
}

func (h *stream) Send(ctx context.Context, o store.Once, messages []store.Message) (int, error) {
	if h.st.ctx.Err() != nil {
		return 0, store.ErrClosed
	}
	return h.st.publisherOf(h.row).send(ctx, o, messages)
}
