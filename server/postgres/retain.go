package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
)

// appendTrim returns below which seq no message is alive when the stream has messages up to next, with total bytes.
func (t *publishing) appendTrim(next, total int64) (int64, error) {
	o := t.p.stream.StreamOptions
	trim := t.top.trim
	switch {
	case o.MaxBytes > 0 || o.RetainUpTo > 0 && t.top.purges > 0:
		return t.makeRoom(trim, next, total)
	case o.RetainUpTo > 0: // no seq is missing
		return max(trim, next-int64(o.RetainUpTo)), nil
	}
	return trim, nil
}

// makeRoom drops the oldest messages until the others keep the limits. It returns ErrFull when messages would be dropped that
// have to stay.
func (t *publishing) makeRoom(trim, next, total int64) (int64, error) {
	o := t.p.stream.StreamOptions
	messages, bytes, err := t.p.st.living(t.s, t.p.stream.id, trim, t.top)
	if err != nil {
		return 0, err
	}
	messages, bytes = messages+next-t.top.next, bytes+total-t.top.total
	large := func() bool { return o.MaxBytes > 0 && bytes > o.MaxBytes }
	many := func() bool { return o.RetainUpTo > 0 && messages > int64(o.RetainUpTo) }
	for from := trim; from > 0 && (large() || many()); {
		var sizes []sized
		if sizes, from, err = t.p.st.sizesFrom(t.s, t.p.stream.id, from); err != nil {
			return 0, err
		}
		for i := 0; i < len(sizes) && (large() || many()); i++ {
			if large() && messages <= int64(o.RetainAtLeast) {
				return 0, store.ErrFull
			}
			messages, bytes, trim = messages-1, bytes-sizes[i].size, sizes[i].seq+1
		}
	}
	switch { // what is left are the messages of the send
	case large():
		return 0, store.ErrFull
	case many():
		return next - int64(o.RetainUpTo), nil
	}
	return trim, nil
}

// keysRow is what a chunk says of its messages without their data.
type keysRow struct {
	first, total int64
	n            int
	keys         []byte
}

func (r *keysRow) next() int64 { return r.first + int64(r.n) }

// queryKeys reads the keys of up to limit chunks, from the one that has a seq on.
func (st *Store) queryKeys(s *session, stream, seq int64, limit int) (all []keysRow, err error) {
	return st.queryKeysWith(s, stream, "", seq, limit)
}

// queryKeysWith is queryKeys, and leaves out chunks without a key that contains a text.
func (st *Store) queryKeysWith(s *session, stream int64, text string, seq int64, limit int) (all []keysRow, err error) {
	return st.queryKeyRows(s, chunkKeysSQL, stream, seq, limit, []byte(text))
}

func (st *Store) queryKeyRows(s *session, text string, args ...any) (all []keysRow, err error) {
	rows, err := s.conn.Query(s.ctx, st.q(text), args...)
	if err != nil {
		return nil, err
	}
	return collectKeyRows(rows)
}

func collectKeyRows(rows pgx.Rows) ([]keysRow, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r keysRow, err error) {
		return r, row.Scan(&r.first, &r.n, &r.total, &r.keys)
	})
}

// sizesFrom returns the sizes of messages from seq on. From next on there may be more; it is 0 at the end of the stream.
func (st *Store) sizesFrom(s *session, stream, seq int64) (sizes []sized, next int64, err error) {
	const limit = 16 // chunks
	rows, err := st.queryKeys(s, stream, seq, limit)
	for _, r := range rows {
		more, err := decodeSizes(stream, r.first, r.n, r.keys, seq)
		if err != nil {
			return nil, 0, err
		}
		sizes = append(sizes, more...)
	}
	if len(rows) == limit {
		next = rows[limit-1].next()
	}
	return sizes, next, err
}

// living returns how many messages a stream that appends has from seq on, and their bytes.
func (st *Store) living(s *session, stream, seq int64, top streamTop) (messages, bytes int64, err error) {
	rows, err := st.queryKeys(s, stream, seq, 1)
	if err != nil || len(rows) == 0 {
		return 0, 0, err
	}
	messages, bytes, err = rows[0].living(stream, seq, top)
	if err != nil || top.purges == 0 {
		return messages, bytes, err
	}
	var gone, goneBytes int64
	err = s.conn.QueryRow(s.ctx, st.q(sumPurgedSQL), stream, rows[0].first).Scan(&gone, &goneBytes)
	return messages - gone, bytes - goneBytes, err
}

// living returns how many messages are left from a seq on, which is in this chunk or before it, and their size. Those that were purged
// from later chunks are counted.
func (r *keysRow) living(stream, seq int64, top streamTop) (messages, bytes int64, err error) {
	sizes, err := decodeSizes(stream, r.first, r.n, r.keys, seq)
	if err != nil {
		return 0, 0, err
	}
	messages, bytes = top.next-r.next(), top.total-r.total
	for _, m := range sizes {
		messages, bytes = messages+1, bytes+m.size
	}
	return messages, bytes, nil
}
