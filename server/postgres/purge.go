package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
)

const (
	// purgeKeys is of how many chunks one transaction of a purge looks at the keys, and purgeChunks how many it reads and
	// rewrites, which is about 16 MB of a full stream.
	purgeKeys   = 200
	purgeChunks = 16
	// purgeRows is how many messages with one per key one transaction of a purge looks at.
	purgeRows = 4000
)

// Extended implements store.Extended: streams can be purged, and consumers start where their creators say. It does nothing.
func (st *Store) Extended() {}

// KeepsHeaders implements store.KeepsHeaders. It does nothing.
func (st *Store) KeepsHeaders() {}

var (
	_ store.Extended       = (*Store)(nil)
	_ store.ExtendedStream = (*stream)(nil)
	_ store.Surveyed       = (*Store)(nil)
	_ store.KeepsHeaders   = (*Store)(nil)
)

// purge is the part of a purge that one transaction does.
type purge struct {
	store.PurgeQuery
	filter store.Filter
	from   int64 // seq of the first message that it looks at
	next   int64 // where the next transaction goes on, or 0
	end    int64 // what is stored at this seq and later is newer than the purge
}

// asks reports whether the purge is for a message.
func (p *purge) asks(m *store.Message) bool {
	return m.Seq >= p.from && m.Seq < p.end && (p.Pattern == "" || p.filter.Match(m.Key))
}

// Purge implements store.ExtendedStream. It takes several transactions, so that none holds the lock of the stream for long.
func (h *stream) Purge(ctx context.Context, q store.PurgeQuery) (purged int, err error) {
	if h.st.ctx.Err() != nil {
		return 0, store.ErrClosed
	}
	p := purge{PurgeQuery: q, filter: store.NewFilter(q.Pattern), from: 1}
	for p.from > 0 {
		x := &sending{purge: &p, done: make(chan struct{})}
		if !h.st.spawn(func() { h.st.publisherOf(h.row).publish([]*sending{x}) }) {
			answer([]*sending{x}, store.ErrClosed)
		}
		select {
		case <-x.done:
			err = x.err
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", store.ErrUnknown, context.Cause(ctx))
		}
		if err != nil {
			return 0, purgeError(err, purged)
		}
		purged += x.published
		p.from = p.next
	}
	return purged, nil
}

// purgeError is the error of a purge whose earlier transactions have removed some messages.
func purgeError(err error, purged int) error {
	if purged > 0 && !errors.Is(err, store.ErrUnknown) {
		return fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	return err
}

// purge removes messages, under the lock of the stream's head.
func (t *publishing) purge(x *sending) error {
	p := x.purge
	if p.end == 0 {
		p.end = t.top.next
		if p.Before > 0 {
			p.end = min(p.end, p.Before)
		}
	}
	p.next = 0
	b := &pgx.Batch{}
	var err error
	switch {
	case p.from >= p.end:
	case t.p.stream.OneMessagePerKey:
		err = t.purgeLatest(b, x)
	case p.Pattern == "":
		err = t.purgeBelow(b, x)
	default:
		err = t.purgeChunks(b, x)
	}
	if err != nil {
		return err
	}
	return t.store(b, x.published > 0)
}

// purgeBelow removes the oldest messages of a stream that appends.
func (t *publishing) purgeBelow(b *pgx.Batch, x *sending) error {
	st, id := t.p.st, t.p.stream.id
	before, _, err := st.living(t.s, id, t.top.trim, t.top)
	if err != nil {
		return err
	}
	trim := max(t.top.trim, x.purge.end)
	after, _, err := st.living(t.s, id, trim, t.top)
	if err != nil {
		return err
	}
	x.published = int(before - after)
	t.purged(b, x, trim)
	return nil
}

// purged adds the statement that tells consumers of a purge, and below which seq no message is alive.
func (t *publishing) purged(b *pgx.Batch, x *sending, trim int64) {
	if x.published > 0 {
		b.Queue(t.p.st.q(purgedSQL), t.p.stream.id, trim)
	}
}

// chunkPurge is what a purge leaves of a chunk.
type chunkPurge struct {
	keysRow
	left            []int64 // seqs
	gone, goneBytes int64
}

// plan returns what the purge leaves of a chunk. Messages below trim are gone already.
func (p *purge) plan(stream int64, row keysRow, trim int64) (c chunkPurge, err error) {
	c.keysRow = row
	r := readKeys(row.first, row.n, row.keys)
	for r != nil && r.read() {
		m := store.Message{Key: string(row.keys[r.begin : r.begin+r.key]), Seq: r.seq}
		switch {
		case m.Seq < trim:
		case p.asks(&m):
			c.gone, c.goneBytes = c.gone+1, c.goneBytes+r.size()
		default:
			c.left = append(c.left, m.Seq)
		}
	}
	if r == nil || !r.whole() {
		return c, damagedChunk(stream, row.first)
	}
	return c, nil
}

// purgeChunks removes messages from some chunks of a stream that appends. Chunks that begin the stream and have no messages any
// more are left to the janitor.
func (t *publishing) purgeChunks(b *pgx.Batch, x *sending) error {
	st, id, p, trim := t.p.st, t.p.stream.id, x.purge, t.top.trim
	rows, err := st.queryKeys(t.s, id, max(p.from, trim), purgeKeys)
	if err != nil {
		return err
	}
	if n := len(rows); n == purgeKeys && rows[n-1].next() < p.end {
		p.next = rows[n-1].next()
	}
	var read []int64
	var all []chunkPurge
	for _, row := range rows {
		c, err := p.plan(id, row, t.top.trim)
		if err != nil {
			return err
		}
		if c.gone > 0 && len(c.left) > 0 {
			if len(read) == purgeChunks {
				p.next = c.first
				break
			}
			read = append(read, c.first)
		}
		if trim >= c.first {
			trim = c.next()
			if len(c.left) > 0 {
				trim = c.left[0]
			}
		}
		if c.gone > 0 {
			x.published += int(c.gone)
			all = append(all, c)
		}
	}
	if err := t.rewrite(b, read, all); err != nil {
		return err
	}
	t.purged(b, x, trim)
	return nil
}

// rewrite adds the statements that store what is left of chunks. read are the first seqs of those that have messages left.
func (t *publishing) rewrite(b *pgx.Batch, read []int64, all []chunkPurge) error {
	var chunks []*chunk
	if len(read) > 0 {
		var err error
		if chunks, err = t.p.st.queryChunks(t.s, chunksOfSQL, t.p.stream.id, read); err != nil {
			return err
		}
	}
	for _, p := range all {
		var left []store.Message
		if i := slices.IndexFunc(chunks, func(c *chunk) bool { return c.first == p.first }); i >= 0 {
			for _, seq := range p.left {
				left = append(left, *chunks[i].message(seq))
			}
		}
		keys, data, _ := encodeLeft(p.first, left)
		b.Queue(t.p.st.q(rewriteChunkSQL), t.p.stream.id, p.first, keys, data, len(left), p.goneBytes)
	}
	return nil
}

// purgeLatest removes messages of a stream with one message per key.
func (t *publishing) purgeLatest(b *pgx.Batch, x *sending) error {
	st, p, top := t.p.st, x.purge, t.top
	rows, err := t.s.conn.Query(t.s.ctx, st.q(latestKeysSQL), t.p.stream.id, p.from, purgeRows)
	if err != nil {
		return err
	}
	var seqs []int64
	var m store.Message
	var size int64
	tag, err := pgx.ForEachRow(rows, []any{&m.Seq, &m.Key, &size}, func() error {
		if p.asks(&m) {
			seqs = append(seqs, m.Seq)
			top.messages, top.bytes = top.messages-1, top.bytes-size
		}
		return nil
	})
	if err != nil {
		return err
	}
	if tag.RowsAffected() == purgeRows && m.Seq+1 < p.end {
		p.next = m.Seq + 1
	}
	if x.published = len(seqs); len(seqs) > 0 {
		b.Queue(st.q(purgeLatestSQL), t.p.stream.id, seqs, t.now)
		b.Queue(st.q(updateMarkSQL), t.p.stream.id, top.next, top.messages, top.bytes)
	}
	t.purged(b, x, t.top.trim)
	return nil
}

// purgedOf returns those of the seqs whose messages were purged from a stream that appends.
func (t *transaction) purgedOf(seqs []int64) (gone []int64, err error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	slices.Sort(seqs)
	rows, err := t.s.conn.Query(t.s.ctx, t.e.st.q(purgedKeysSQL), t.e.row.stream.id, seqs)
	if err != nil {
		return nil, err
	}
	var r keysRow
	_, err = pgx.ForEachRow(rows, []any{&r.first, &r.n, &r.keys}, func() error {
		left, err := decodeSizes(t.e.row.stream.id, r.first, r.n, r.keys, r.first)
		if err != nil {
			return err
		}
		i, _ := slices.BinarySearch(seqs, r.first)
		for ; i < len(seqs) && seqs[i] < r.next(); i++ {
			if _, alive := slices.BinarySearchFunc(left, seqs[i], bySeq); !alive {
				gone = append(gone, seqs[i])
			}
		}
		return nil
	})
	return gone, err
}
