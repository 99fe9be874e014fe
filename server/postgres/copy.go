package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

var (
	_ store.Copyable         = (*Store)(nil)
	_ store.CopyableStream   = (*stream)(nil)
	_ store.CopyableConsumer = (*consumer)(nil)
)

const (
	// The head first, as a publish and a delete have it. The row of streams orders those who create and delete consumers.
	markHeadSQL   = `update {s}.stream_heads set copy_state = $2 where id = $1`
	lockRowSQL    = `select from {s}.streams where id = $1 for update`
	markStreamSQL = `update {s}.streams set copy_state = $2, copy_peer = $3 where id = $1 returning id`
	sendsSQL      = `select token, body, published, at from {s}.sends where stream_id = $1 and at >= $2 order by at desc limit $3`
	// openTransactionsSQL lists the transactions of clients of this database, prepared ones too. Every transaction has a lock on
	// its virtual or its real id. Workers of Postgres itself have no user.
	openTransactionsSQL = `select l.virtualtransaction, coalesce(l.pid, 0)
		from pg_locks l left join pg_stat_activity a on a.pid = l.pid
		where l.locktype in ('virtualxid', 'transactionid') and l.granted and l.pid is distinct from pg_backend_pid()
			and (l.pid is null or a.usesysid is not null and a.datid = (select oid from pg_database where datname = current_database()))`
)

// mark returns the mark of a stream.
func (r *streamRow) mark() store.CopyMark {
	return store.CopyMark{State: store.CopyState(r.copying), Peer: r.peer}
}

// CreateCopy implements store.Copyable.
func (st *Store) CreateCopy(ctx context.Context, info store.StreamInfo, of string) (store.Stream, error) {
	return st.createStream(ctx, streamRow{
		StreamOptions: info.StreamOptions, insertedAt: info.InsertedAt.UnixMicro(), copying: int16(store.CopyTarget), peer: of,
	})
}

// whyUnchangeable returns why nothing can be created in a stream or deleted from it, or nil.
func (st *Store) whyUnchangeable(s *session, row streamRow) error {
	now, err := st.findStream(s, row.uuid.String())
	if err != nil {
		return err
	}
	return now.mark().Err()
}

// CopyMark implements store.CopyableStream.
func (h *stream) CopyMark(ctx context.Context) (mark store.CopyMark, err error) {
	err = h.st.query(ctx, func(s *session) error {
		row, err := h.st.findStream(s, h.row.uuid.String())
		mark = row.mark()
		return err
	})
	return mark, err
}

// SetCopyMark implements store.CopyableStream. Publishers that come later find the mark in the head, which they lock, and
// consumers when they have locked theirs. What transactions have left for a stream that is copied is sent: of those that
// were open when the mark was set it waits for the end, because they may have asked before whether the stream takes messages.
func (h *stream) SetCopyMark(ctx context.Context, mark store.CopyMark) error {
	err := h.st.query(ctx, func(s *session) error {
		b := begin()
		found := false
		b.Queue(h.st.q(markHeadSQL), h.row.id, int16(mark.State))
		b.Queue(h.st.q(lockRowSQL), h.row.id)
		b.Queue(h.st.q(markStreamSQL), h.row.id, int16(mark.State), mark.Peer).Query(func(rows pgx.Rows) error {
			found = rows.Next()
			return rows.Err()
		})
		commit(b)
		if err := s.send(b); err != nil {
			return err
		}
		if !found {
			return store.ErrNoStream
		}
		return nil
	})
	if err != nil {
		return err
	}
	h.st.wake.streamChanged(h.row.id)
	if mark.State != store.CopySource {
		return nil
	}
	if err := h.st.waitForTransactions(ctx, h.row.Name); err != nil {
		return err
	}
	return h.st.moveFor(ctx, h.row, true)
}

// lookForTransactions is how often it is looked whether transactions have ended. Most take less.
const lookForTransactions = 20 * time.Millisecond

// waitForTransactions waits until all transactions have ended that are open now.
func (st *Store) waitForTransactions(ctx context.Context, name string) error {
	open, err := st.openTransactions(ctx)
	begin, said := time.Now(), false
	for err == nil && len(open) > 0 {
		if !said && time.Since(begin) >= st.options.sayAfter {
			said = true
			st.options.Logger.Warn("the copy waits for transactions that may have left messages with SendTx: commit them, or end them with pg_terminate_backend",
				"stream", name, "backends", backends(open))
		}
		var now map[string]int32
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(lookForTransactions):
			now, err = st.openTransactions(ctx)
		}
		if err != nil {
			return fmt.Errorf("%w, while it waited for transactions that may have left messages with SendTx, of the backends %s", err, backends(open))
		}
		for id := range open {
			if _, still := now[id]; !still {
				delete(open, id)
			}
		}
	}
	return err
}

// backends lists the process ids of transactions. A prepared one has none.
func backends(open map[string]int32) string {
	var all []string
	for _, pid := range open {
		if pid == 0 {
			all = append(all, "(prepared transaction)")
		} else {
			all = append(all, fmt.Sprint(pid))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// openTransactions returns the open transactions with the process ids of their backends.
func (st *Store) openTransactions(ctx context.Context) (open map[string]int32, err error) {
	err = st.query(ctx, func(s *session) error {
		open = map[string]int32{}
		rows, err := s.conn.Query(s.ctx, openTransactionsSQL)
		if err != nil {
			return err
		}
		var id string
		var pid int32
		_, err = pgx.ForEachRow(rows, []any{&id, &pid}, func() error { open[id] = pid; return nil })
		return err
	})
	return open, err
}

// NextSeq implements store.CopyableStream.
func (h *stream) NextSeq(ctx context.Context) (next int64, err error) {
	err = h.st.query(ctx, func(s *session) error {
		top, err := h.st.readTop(s, h.row)
		next = top.next
		return err
	})
	return next, err
}

// maxSends is how many sends a copy takes along: as many as other stores remember.
const maxSends = 1_000_000

// Sends implements store.CopyableStream. Among them are the marks of transactions, which mean nothing elsewhere.
func (h *stream) Sends(ctx context.Context) (all []store.RememberedSend, err error) {
	err = h.st.query(ctx, func(s *session) error {
		all = nil
		rows, err := s.conn.Query(s.ctx, h.st.q(sendsSQL), h.row.id, h.st.forgotten(), maxSends)
		if err != nil {
			return err
		}
		var token, body uuid.UUID
		var x store.RememberedSend
		_, err = pgx.ForEachRow(rows, []any{&token, &body, &x.Published, &x.At}, func() error {
			if body == uuid.Nil && x.Published == 0 {
				return nil // such a mark
			}
			x.Key, x.Body = token, store.BodyHash(body)
			all = append(all, x)
			return nil
		})
		slices.Reverse(all)
		return err
	})
	return all, err
}

// Position implements store.CopyableConsumer.
func (h *consumer) Position(ctx context.Context) (p store.Position, err error) {
	e := h.engine()
	err = e.ask(ctx, &request{always: true, do: func(t *transaction) error {
		if err := t.endLeases(); err != nil {
			return err
		}
		p = e.state.Position()
		return nil
	}})
	if errors.Is(err, store.ErrUnknown) {
		err = fmt.Errorf("%w: %s", store.ErrFailed, oneLine(err)) // that leases end is no change that anybody asked for
	}
	return p, err
}

// endLeases ends all leases, and drops the heads whose messages are gone.
func (t *transaction) endLeases() error {
	s := t.e.state
	if leases := s.OnLeaseNow(); len(leases) > 0 {
		t.d.addSettle(leases, backlog.Nack, 0)
		s.Settle(leases, backlog.Nack, t.now, 0)
	}
	for {
		if err := t.seek(); err != nil {
			return err
		}
		if s.keyed {
			if err := t.readAll(); err != nil {
				return err
			}
			if err := t.sweep(true); err != nil {
				return err
			}
		}
		if s.Seeks() == 0 {
			return nil
		}
	}
}
