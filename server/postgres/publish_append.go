package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
)

// streamTop is what the newest row of a stream says.
type streamTop struct {
	next     int64 // the next seq
	at       int64 // time of the newest messages
	trim     int64 // no message below it is alive; of a stream that appends
	total    int64 // bytes of all messages; of a stream that appends
	messages int64 // of a stream with one message per key
	bytes    int64 // of a stream with one message per key
}

// queue adds the statement that reads the top.
func (t *streamTop) queue(st *Store, row streamRow, b *pgx.Batch) {
	t.next, t.trim = 1, 1
	if row.OneMessagePerKey {
		b.Queue(st.q(topMarkSQL), row.id).Query(func(rows pgx.Rows) error {
			if !rows.Next() {
				return rows.Err()
			}
			return rows.Scan(&t.next, &t.at, &t.messages, &t.bytes)
		})
		return
	}
	b.Queue(st.q(topChunkSQL), row.id).Query(func(rows pgx.Rows) error {
		if !rows.Next() {
			return rows.Err()
		}
		var n int64
		err := rows.Scan(&t.next, &n, &t.at, &t.trim, &t.total)
		t.next += n
		return err
	})
}

// append plans chunks for the sends and adds the statement that stores them.
func (t *publishing) append(b *pgx.Batch, todo []*sending) ([]*chunk, error) {
	var all []store.Message
	for _, x := range todo {
		x.published = len(x.messages)
		all = append(all, x.messages...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	at := max(t.now, t.top.at)
	first, total := t.top.next, t.top.total
	var chunks []*chunk
	var firsts, totals []int64
	var counts []int32
	var keys, data [][]byte
	for rest := all; len(rest) > 0; {
		n, size := chunkLength(rest)
		k, d, _ := encodeChunk(rest[:n])
		total += size
		firsts, counts, totals = append(firsts, first), append(counts, int32(n)), append(totals, total)
		keys, data = append(keys, k), append(data, d)
		c, err := decodeChunk(t.p.stream.id, first, n, at, k, d)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, c)
		first += int64(n)
		rest = rest[n:]
	}
	trim, err := t.appendTrim(first, total)
	if err != nil {
		return nil, err
	}
	b.Queue(t.p.st.q(insertChunksSQL), t.p.stream.id, at, trim, firsts, counts, totals, keys, data)
	return chunks, nil
}

// chunkLength returns how many messages the next chunk has, and their size.
func chunkLength(rest []store.Message) (n int, size int64) {
	for n < len(rest) && n < chunkMessages {
		more := rest[n].Size()
		if n > 0 && size+more > chunkBytes {
			break
		}
		size += more
		n++
	}
	return n, size
}

// appendTrim returns below which seq no message is alive when the stream has messages up to next, with total bytes.
func (t *publishing) appendTrim(next, total int64) (int64, error) {
	o := t.p.stream.StreamOptions
	trim := max(t.top.trim, t.trim)
	if o.MaxBytes > 0 {
		var err error
		if trim, err = t.makeRoom(trim, next, total-o.MaxBytes); err != nil {
			return 0, err
		}
	}
	if o.RetainUpTo > 0 {
		trim = max(trim, next-int64(o.RetainUpTo))
	}
	return trim, nil
}

// makeRoom drops the oldest messages until those below the trim have at least as many bytes as excess. It returns ErrFull
// when messages would be dropped that have to stay.
func (t *publishing) makeRoom(trim, next, excess int64) (int64, error) {
	for {
		sizes, below, err := t.p.st.sizesFrom(t.s, t.p.stream.id, trim)
		if err != nil {
			return 0, err
		}
		for _, size := range sizes {
			if below >= excess {
				return trim, nil
			}
			if next-trim <= int64(t.p.stream.RetainAtLeast) {
				return 0, store.ErrFull
			}
			below += size
			trim++
		}
		if below >= excess {
			return trim, nil
		}
		if len(sizes) == 0 || trim >= t.top.next {
			return 0, store.ErrFull // what is left are the messages of the send
		}
	}
}

// sizesFrom returns the sizes of messages from seq on, and how many bytes all messages below it have.
func (st *Store) sizesFrom(s *session, stream, seq int64) (sizes []int64, below int64, err error) {
	rows, err := s.conn.Query(s.ctx, st.q(chunkSizesSQL), stream, seq)
	if err != nil {
		return nil, 0, err
	}
	var first, total int64
	var n int
	var keys []byte
	begun := false
	_, err = pgx.ForEachRow(rows, []any{&first, &n, &total, &keys}, func() error {
		all, err := decodeSizes(n, keys)
		if err != nil {
			return err
		}
		if !begun {
			begun, below = true, total
			for _, size := range all {
				below -= size
			}
		}
		for i, size := range all {
			if first+int64(i) < seq {
				below += size
				continue
			}
			sizes = append(sizes, size)
		}
		return nil
	})
	return sizes, below, err
}
