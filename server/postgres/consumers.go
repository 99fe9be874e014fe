package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// consumerRow is a row of consumers, with its stream's.
type consumerRow struct {
	id                    int64
	uuid                  uuid.UUID
	ackWait               int64
	insertedAt, updatedAt int64
	store.ConsumerOptions
	stream streamRow
}

const consumerQuery = `select c.id, c.uuid, c.name, c.filter, c.ack_wait, c.max_ack_pending, c.max_deliver, c.max_waiting, c.disabled, c.start_seq, c.inserted_at, c.updated_at,
	s.id, s.uuid, s.name, s.one_message_per_key, s.process_unmodified, s.max_bytes, s.retain_up_to, s.retain_at_least, s.inserted_at, s.copy_state, s.copy_peer
	from {s}.consumers c join {s}.streams s on s.id = c.stream_id `

func (r *consumerRow) fields() []any {
	return append([]any{
		&r.id, &r.uuid, &r.Name, &r.Filter, &r.ackWait, &r.MaxAckPending, &r.MaxDeliver, &r.MaxWaiting, &r.Disabled, &r.Start, &r.insertedAt, &r.updatedAt,
	}, r.stream.fields()...)
}

func (r *consumerRow) info() store.ConsumerInfo {
	o := r.ConsumerOptions
	o.AckWait = time.Duration(r.ackWait)
	return store.ConsumerInfo{
		ConsumerOptions: o, ID: r.uuid.String(), StreamID: r.stream.uuid.String(),
		InsertedAt: wallTime(r.insertedAt), UpdatedAt: wallTime(r.updatedAt),
	}
}

// findConsumers returns the consumers that a condition selects.
func (st *Store) findConsumers(s *session, where string, args ...any) (all []*consumer, err error) {
	rows, err := s.conn.Query(s.ctx, st.q(consumerQuery+where), args...)
	if err != nil {
		return nil, err
	}
	var row consumerRow
	_, err = pgx.ForEachRow(rows, row.fields(), func() error {
		all = append(all, &consumer{st, row})
		return nil
	})
	return all, err
}

// Consumer implements store.Store.
func (st *Store) Consumer(ctx context.Context, ref string) (c store.Consumer, err error) {
	err = st.query(ctx, func(s *session) error {
		id, _ := uuid.Parse(ref)
		found, err := st.findConsumers(s, "where c.uuid = $1 or c.name = $2 order by c.uuid = $1 desc limit 2", id, ref)
		switch {
		case err != nil:
			return err
		case len(found) == 0:
			return store.ErrNoConsumer
		case len(found) > 1 && found[0].row.uuid != id:
			return store.ErrAmbiguous
		}
		c = found[0]
		return nil
	})
	return c, err
}

func (h *stream) Consumer(ctx context.Context, ref string) (c store.Consumer, err error) {
	err = h.st.query(ctx, func(s *session) error {
		id, _ := uuid.Parse(ref)
		found, err := h.st.findConsumers(s, "where c.stream_id = $1 and (c.uuid = $2 or c.name = $3) order by c.uuid = $2 desc limit 1", h.row.id, id, ref)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return store.ErrNoConsumer
		}
		c = found[0]
		return nil
	})
	return c, err
}

func (h *stream) Consumers(ctx context.Context) (all []store.Consumer, err error) {
	err = h.st.query(ctx, func(s *session) error {
		found, err := h.st.findConsumers(s, "where c.stream_id = $1 order by c.id", h.row.id)
		all = make([]store.Consumer, len(found))
		for i, c := range found {
			all[i] = c
		}
		return err
	})
	return all, err
}

func (h *stream) CreateConsumer(ctx context.Context, o store.ConsumerOptions) (store.Consumer, error) {
	row := consumerRow{uuid: uuid.New(), ConsumerOptions: o, ackWait: int64(o.AckWait), stream: h.row}
	attempted := false
	err := h.st.query(ctx, func(s *session) error {
		if attempted {
			found, err := h.st.findConsumers(s, "where c.uuid = $1", row.uuid)
			if err != nil {
				return err
			}
			if len(found) > 0 {
				row = found[0].row
				return s.flush()
			}
		}
		if err := h.st.readNow(s, &row.insertedAt); err != nil {
			return err
		}
		row.updatedAt = row.insertedAt
		// The row is flushed behind all messages that are visible now, so that a crash does not lose those that it starts behind.
		top, err := h.st.readTop(s, h.row)
		if err != nil {
			return err
		}
		row.Start = o.StartIn(top.next - 1)
		attempted = true
		err = s.conn.QueryRow(s.ctx, h.st.q(`with s as (select id from {s}.streams where id = $1 and copy_state = 0 for key share), c as (
				insert into {s}.consumers (uuid, stream_id, name, filter, ack_wait, max_ack_pending, max_deliver, max_waiting, disabled, inserted_at, updated_at, start_seq)
				select $2, id, $3, $4, $5, $6, $7, $8, $9, $10, $10, $13 from s returning id
			), d as (
				insert into {s}.ops (consumer_id, n, tag, body) select id, 1, $11, $12 from c
			) insert into {s}.consumer_heads (id) select id from c returning id`),
			h.row.id, row.uuid, o.Name, o.Filter, row.ackWait, o.MaxAckPending, o.MaxDeliver, o.MaxWaiting, o.Disabled, row.insertedAt,
			rand.Int64(), firstDecision(row.insertedAt, row.ConsumerOptions), row.Start).Scan(&row.id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return h.st.whyUnchangeable(s, h.row)
		case isNameTaken(err):
			return store.ErrNameTaken
		}
		return err
	})
	if err != nil {
		return nil, changeError(err, attempted)
	}
	return &consumer{h.st, row}, nil
}

// firstDecision is the decision with which every consumer begins: what its limits are, and where it starts.
func firstDecision(at int64, o store.ConsumerOptions) []byte {
	d := newDecision(at * 1000)
	d.addLimits(backlog.Limits{AckWait: int64(o.AckWait), MaxAckPending: o.MaxAckPending, MaxDeliver: o.MaxDeliver})
	if o.Start > 1 {
		d.addStart(o.Start)
	}
	return d.body
}

// consumer is a store.Consumer.
type consumer struct {
	st  *Store
	row consumerRow
}

var _ store.Consumer = (*consumer)(nil)

func (h *consumer) ID() string       { return h.row.uuid.String() }
func (h *consumer) StreamID() string { return h.row.stream.uuid.String() }

func (h *consumer) Info(ctx context.Context) (info store.ConsumerInfo, err error) {
	err = h.st.query(ctx, func(s *session) error {
		found, err := h.st.findConsumers(s, "where c.id = $1", h.row.id)
		info = h.row.info()
		if len(found) > 0 {
			info = found[0].row.info()
		}
		return err
	})
	return info, err
}

func (h *consumer) Delete(ctx context.Context) error {
	attempted := false
	err := h.st.query(ctx, func(s *session) error {
		b := begin()
		deleted := false
		b.Queue(h.st.q(deleteConsumerSQL), h.row.id, h.row.stream.id).Query(func(rows pgx.Rows) error {
			deleted = rows.Next()
			return rows.Err()
		})
		b.Queue(h.st.q("delete from {s}.consumers where id = $1 and not exists (select from {s}.consumer_heads where id = $1)"), h.row.id)
		b.Queue(h.st.q("insert into {s}.deleted_consumers select $1 where not exists (select from {s}.consumer_heads where id = $1) on conflict do nothing"), h.row.id)
		commit(b)
		if err := s.send(b); err != nil {
			attempted = true
			return err
		}
		if deleted {
			return nil
		}
		switch err := h.st.whyUnchangeable(s, h.row.stream); {
		case errors.Is(err, store.ErrCopying) && attempted:
			return errors.Join(store.ErrUnknown, err)
		case errors.Is(err, store.ErrCopying):
			return err
		case attempted:
			return nil
		}
		return store.ErrNoConsumer
	})
	if err != nil {
		return changeError(err, attempted)
	}
	h.st.wake.consumerChanged(h.row.id)
	return nil
}
