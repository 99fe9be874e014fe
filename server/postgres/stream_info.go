package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
)

// streamInfosSQL reads what streams hold. Of a stream that appends these are its top, and the chunk with its first living message,
// as living needs them. The keys are left out where no message was ever removed: those of a thousand streams may take 20 MB.
const streamInfosSQL = `select ` + streamColumns + `, (select count(*) from {s}.consumers c where c.stream_id = s.id),
		coalesce(h.purges, 0), coalesce(m.messages, 0), coalesce(m.bytes, 0),
		coalesce(c.next_seq, 1), coalesce(c.total, 0), greatest(c.trim_seq, h.trim_seq, 1),
		coalesce(f.first_seq, 0), coalesce(f.total, 0), coalesce(f.n, 0),
		case when h.purges > 0 or greatest(c.trim_seq, h.trim_seq, 1) > 1 then f.keys end, coalesce(p.messages, 0), coalesce(p.bytes, 0)
	from {s}.streams s
	left join (select id as head, trim_seq, purges from {s}.stream_heads) h on h.head = s.id
	left join lateral (
		select messages, bytes from {s}.marks where s.one_message_per_key and stream_id = s.id order by next_seq desc limit 1
	) m on true
	left join lateral (
		select first_seq + n as next_seq, total, trim_seq
		from {s}.chunks where not s.one_message_per_key and stream_id = s.id order by first_seq desc limit 1
	) c on true
	left join lateral (
		select first_seq, n, total, keys from {s}.chunks
		where c.next_seq is not null and stream_id = s.id and first_seq >= coalesce((
			select max(first_seq) from {s}.chunks where stream_id = s.id and first_seq <= greatest(c.trim_seq, h.trim_seq, 1)
		), 0)
		order by first_seq limit 1
	) f on true
	left join lateral (
		select sum(purged)::bigint as messages, sum(purged_bytes)::bigint as bytes
		from {s}.chunks where h.purges > 0 and stream_id = s.id and first_seq > f.first_seq and purged > 0
	) p on true`

// StreamInfos implements store.Surveyed. It leaves out a stream that is damaged.
func (st *Store) StreamInfos(ctx context.Context) ([]store.StreamInfo, error) {
	return st.streamInfos(ctx, " order by s.id desc")
}

func (h *stream) Info(ctx context.Context) (store.StreamInfo, error) {
	all, err := h.st.streamInfos(ctx, " where s.id = $1", h.row.id)
	switch {
	case err != nil:
		return store.StreamInfo{}, err
	case len(all) == 0:
		return store.StreamInfo{}, store.ErrNoStream
	}
	return all[0], nil
}

// streamInfos reads what the streams hold that a condition selects.
func (st *Store) streamInfos(ctx context.Context, condition string, args ...any) (all []store.StreamInfo, err error) {
	var damage error
	err = st.query(ctx, func(s *session) error {
		rows, err := s.conn.Query(s.ctx, st.q(streamInfosSQL+condition), args...)
		if err != nil {
			return err
		}
		held, err := pgx.CollectRows(rows, scanHeld)
		all, damage = make([]store.StreamInfo, 0, len(held)), nil
		for i := range held {
			info, err := held[i].info(st)
			if err != nil {
				damage = errors.Join(damage, err)
				continue
			}
			all = append(all, info)
		}
		return err
	})
	return all, errors.Join(err, damage)
}

// held is a row of streamInfosSQL.
type held struct {
	stream          streamRow
	consumers       int
	top             streamTop
	first           keysRow
	gone, goneBytes int64 // what was purged from the chunks behind the first
}

func scanHeld(from pgx.CollectableRow) (h held, err error) {
	top, first := &h.top, &h.first
	return h, from.Scan(append(h.stream.fields(), &h.consumers, &top.purges, &top.messages, &top.bytes, &top.next, &top.total, &top.trim,
		&first.first, &first.total, &first.n, &first.keys, &h.gone, &h.goneBytes)...)
}

// info counts what is left. It returns an error if the keys are damaged.
func (h *held) info(st *Store) (info store.StreamInfo, err error) {
	row, top, first := &h.stream, h.top, &h.first
	st.chunks.purged(row.id, top.purges)
	at := wallTime(row.insertedAt)
	info.Consumers = h.consumers
	info.StreamOptions, info.ID, info.InsertedAt, info.UpdatedAt = row.StreamOptions, row.uuid.String(), at, at
	switch {
	case first.n == 0: // it is empty, or has one message for each key
	case first.keys == nil:
		top.messages, top.bytes = top.next-1, top.total
	default:
		if top.messages, top.bytes, err = first.living(row.id, top.trim, top); err != nil {
			return info, err
		}
	}
	info.Messages, info.Bytes = int(top.messages-h.gone), top.bytes-h.goneBytes
	return info, nil
}
