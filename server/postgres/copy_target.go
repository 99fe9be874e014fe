package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// A stream that is the target of a copy has the messages of another one with their seqs and times. In a stream that appends,
// what the other one has not are purged seqs.

const (
	insertRestoredSQL = `insert into {s}.chunks (stream_id, first_seq, n, at, trim_seq, total, purged, keys, data)
		select $1, f, n, a, $2, t, p, k, d
		from unnest($3::bigint[], $4::int[], $5::bigint[], $6::bigint[], $7::int[], $8::bytea[], $9::bytea[]) as x (f, n, a, t, p, k, d)`
	// A stream that has no seq missing is counted faster.
	restoredGapsSQL  = `update {s}.stream_heads set purges = greatest(purges, 1) where id = $1`
	restoreLatestSQL = `insert into {s}.latest (stream_id, seq, inserted_at, updated_at, key, data)
		select $1, s, i, u, k, d from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[]) as x (s, i, u, k, d)`
	// Only messages of a store that keeps headers have some.
	restoreHeadersSQL = `insert into {s}.latest (stream_id, seq, inserted_at, updated_at, key, data, headers)
		select $1, s, i, u, k, d, h from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[], $7::bytea[]) as x (s, i, u, k, d, h)`
	restoreSendsSQL = `insert into {s}.sends (stream_id, token, body, published, at)
		select $1, t, b, p, a from unnest($2::uuid[], $3::uuid[], $4::int[], $5::bigint[]) as x (t, b, p, a)
		on conflict (stream_id, token) do update set body = excluded.body, published = excluded.published, at = excluded.at`
	restoreConsumerSQL = `with s as (select id from {s}.streams where id = $1 and copy_state = $2 for key share), c as (
			insert into {s}.consumers (uuid, stream_id, name, filter, ack_wait, max_ack_pending, max_deliver, max_waiting, disabled, start_seq, inserted_at, updated_at)
			select $3, id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 from s returning id
		), d as (
			insert into {s}.ops (consumer_id, n, tag, body) select id, 1, $14, $15 from c
		), e as (
			insert into {s}.snapshots (consumer_id, n, tag, body) select id, 1, $14, $16 from c
		) insert into {s}.consumer_heads (id) select id from c returning id`
)

// restore is what one transaction stores of a copy.
type restore struct {
	messages []store.Message
	next     int64 // the seq of the next message, 0 to leave it
	sends    []store.RememberedSend
}

// restoreGroup is how many sends one transaction restores.
const restoreGroup = 20_000

// RestoreMessages implements store.CopyableStream.
func (h *stream) RestoreMessages(ctx context.Context, messages []store.Message, next int64) error {
	return h.restore(ctx, &restore{messages: messages, next: next})
}

// RestoreSends implements store.CopyableStream.
func (h *stream) RestoreSends(ctx context.Context, all []store.RememberedSend) error {
	for part := range slices.Chunk(all, restoreGroup) {
		if err := h.restore(ctx, &restore{sends: part}); err != nil {
			return err
		}
	}
	return nil
}

func (h *stream) restore(ctx context.Context, r *restore) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	x := &sending{restore: r, done: make(chan struct{})}
	h.st.publisherOf(h.row).publish([]*sending{x})
	return x.err
}

// restore stores messages or sends, under the lock of the stream's head.
func (t *publishing) restore(r *restore) error {
	if err := t.top.mark().NotTarget(); err != nil {
		return err
	}
	b := &pgx.Batch{}
	rest := r.messages
	for len(rest) > 0 && rest[0].Seq < t.top.next {
		rest = rest[1:]
	}
	switch {
	case t.p.stream.OneMessagePerKey:
		t.restoreLatest(b, rest, r.next)
	default:
		t.restoreChunks(b, rest, r.next)
	}
	t.restoreSends(b, r.sends)
	return t.store(b, len(rest) > 0)
}

// restoredChunks are rows of chunks.
type restoredChunks struct {
	next, total int64 // behind the last row
	at          int64 // of the last row
	gaps        bool

	firsts, ats, totals []int64
	counts, purged      []int32
	keys, data          [][]byte
}

func (c *restoredChunks) add(n, purged int, keys, data []byte, at int64) {
	c.firsts, c.counts, c.purged = append(c.firsts, c.next), append(c.counts, int32(n)), append(c.purged, int32(purged))
	c.keys, c.data = append(c.keys, keys), append(c.data, data)
	c.ats, c.totals = append(c.ats, at), append(c.totals, c.total)
	c.next += int64(n)
	c.at = at
	c.gaps = c.gaps || purged > 0
}

// maxGap is the number of seqs of the largest row without messages.
const maxGap = 1 << 30

// skip adds rows without messages up to a seq.
func (c *restoredChunks) skip(next int64) {
	for c.next < next {
		n := int(min(next-c.next, maxGap))
		keys, data, _ := encodeLeft(c.next, nil)
		c.add(n, n, keys, data, c.at)
	}
}

// take adds a row with the first of the messages, as many as are near one another and have one time. It returns how many.
func (c *restoredChunks) take(messages []store.Message) int {
	if messages[0].Seq-c.next >= chunkMessages/2 {
		c.skip(messages[0].Seq)
	}
	n, size := 1, messages[0].Size()
	for n < len(messages) && messages[n].UpdatedAt == messages[0].UpdatedAt && messages[n].Seq-c.next < chunkMessages {
		if size += messages[n].Size(); size > chunkBytes {
			break
		}
		n++
	}
	taken := messages[:n]
	span := int(taken[n-1].Seq + 1 - c.next)
	encode := func() (keys, data []byte, size int64) { return encodeLeft(c.next, taken) }
	if span == n {
		encode = func() (keys, data []byte, size int64) { return encodeChunk(taken) }
	}
	keys, data, size := encode()
	c.total += size
	c.add(span, span-n, keys, data, taken[0].UpdatedAt)
	return n
}

// restoreChunks adds the statements that store messages of a stream that appends.
func (t *publishing) restoreChunks(b *pgx.Batch, rest []store.Message, next int64) {
	c := restoredChunks{next: t.top.next, total: t.top.total, at: t.top.at}
	trim := t.top.trim
	if trim == t.top.next { // nothing is there
		if trim = max(trim, next); len(rest) > 0 {
			trim = rest[0].Seq
		}
	}
	for len(rest) > 0 {
		rest = rest[c.take(rest):]
	}
	c.skip(next)
	if len(c.firsts) == 0 {
		return
	}
	b.Queue(t.p.st.q(insertRestoredSQL), t.p.stream.id, trim, c.firsts, c.counts, c.ats, c.totals, c.purged, c.keys, c.data)
	if c.gaps {
		b.Queue(t.p.st.q(restoredGapsSQL), t.p.stream.id)
	}
}

// restoreLatest adds the statements that store messages of a stream with one message per key.
func (t *publishing) restoreLatest(b *pgx.Batch, rest []store.Message, next int64) {
	top := t.top
	var seqs, inserted, updated []int64
	var keys []string
	var data, headers [][]byte
	headed := false
	for i := range rest {
		m := &rest[i]
		seqs, inserted, updated = append(seqs, m.Seq), append(inserted, m.InsertedAt), append(updated, m.UpdatedAt)
		keys, data, headers = append(keys, m.Key), append(data, bytesOf(m.Data)), append(headers, bytesOf(string(m.Headers)))
		headed = headed || m.Headers != ""
		top.messages++
		top.bytes += m.Size()
		top.next, top.at = m.Seq+1, m.UpdatedAt
	}
	if top.next = max(top.next, next); top.next == t.top.next {
		return
	}
	switch {
	case headed:
		b.Queue(t.p.st.q(restoreHeadersSQL), t.p.stream.id, seqs, inserted, updated, keys, data, headers)
	case len(seqs) > 0:
		b.Queue(t.p.st.q(restoreLatestSQL), t.p.stream.id, seqs, inserted, updated, keys, data)
	}
	b.Queue(t.p.st.q(insertMarkSQL), t.p.stream.id, top.next, top.at, top.messages, top.bytes)
	b.Queue(t.p.st.q(deleteMarkSQL), t.p.stream.id, t.top.next)
}

// restoreSends adds the statement that stores sends. Of a key that comes twice the newer one counts.
func (t *publishing) restoreSends(b *pgx.Batch, all []store.RememberedSend) {
	if len(all) == 0 {
		return
	}
	newest := make(map[[16]byte]int, len(all))
	for i, x := range all {
		newest[x.Key] = i
	}
	var tokens, bodies []uuid.UUID
	var published []int32
	var ats []int64
	for i, x := range all {
		if newest[x.Key] == i {
			tokens, bodies = append(tokens, x.Key), append(bodies, uuid.UUID(x.Body))
			published, ats = append(published, int32(x.Published)), append(ats, x.At)
		}
	}
	b.Queue(t.p.st.q(restoreSendsSQL), t.p.stream.id, tokens, bodies, published, ats)
}

// RestoreConsumer implements store.CopyableStream.
func (h *stream) RestoreConsumer(ctx context.Context, info store.ConsumerInfo, p store.Position) error {
	o, id := info.ConsumerOptions, uuid.New()
	limits := backlog.Limits{AckWait: int64(o.AckWait), MaxAckPending: o.MaxAckPending, MaxDeliver: o.MaxDeliver}
	attempted := false
	return h.st.query(ctx, func(s *session) error {
		if attempted {
			found, err := h.st.findConsumers(s, "where c.uuid = $1", id)
			if err != nil {
				return err
			}
			if len(found) > 0 {
				return s.flush()
			}
		}
		keys, err := h.keysOf(s, p)
		if err != nil {
			return err
		}
		top, err := h.st.readTop(s, h.row)
		if err != nil {
			return err
		}
		state := newState(h.row.OneMessagePerKey)
		state.trim = top.trim
		state.Backlog = backlog.AtPosition(state, limits, p, keys)
		attempted = true
		var row int64
		err = s.conn.QueryRow(s.ctx, h.st.q(restoreConsumerSQL), h.row.id, int16(store.CopyTarget),
			id, o.Name, o.Filter, limits.AckWait, o.MaxAckPending, o.MaxDeliver, o.MaxWaiting, o.Disabled, o.Start,
			info.InsertedAt.UnixMicro(), info.UpdatedAt.UnixMicro(), rand.Int64(), firstDecision(0, o), state.appendTo(nil)).Scan(&row)
		switch {
		case isNameTaken(err):
			return store.ErrNameTaken
		case err == pgx.ErrNoRows:
			now, err := h.st.findStream(s, h.row.uuid.String())
			if err != nil {
				return err
			}
			return now.mark().NotTarget()
		}
		return err
	})
}

// keysOf reads the keys of the heads of a position.
func (h *stream) keysOf(s *session, p store.Position) (keys []backlog.Hash, err error) {
	for part := range slices.Chunk(p.Heads, readRows) {
		seqs := make([]int64, len(part))
		for i, head := range part {
			seqs[i] = head.Seq
		}
		found, err := h.st.fetch(s, h.row, seqs)
		if err != nil {
			return nil, err
		}
		for _, seq := range seqs {
			m, ok := found[seq]
			if !ok {
				return nil, fmt.Errorf("%w: message %d, which a consumer has not settled, is not there", store.ErrFailed, seq)
			}
			keys = append(keys, keyHash(m.Key))
		}
	}
	return keys, nil
}
