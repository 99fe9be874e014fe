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
	total    int64 // bytes of all messages, also of those that are gone; of a stream that appends
	purges   int64 // how many transactions have purged messages
	copying  int16 // store.CopyState
	messages int64 // of a stream with one message per key
	bytes    int64 // of a stream with one message per key
}

// mark returns the mark of the stream, without the other end.
func (t *streamTop) mark() store.CopyMark { return store.CopyMark{State: store.CopyState(t.copying)} }

// queueHead adds the statement that reads the head of a stream, behind the one that reads its newest row.
func (t *streamTop) queueHead(st *Store, id int64, b *pgx.Batch) {
	b.Queue(st.q(findStreamHeadSQL), id).Query(func(rows pgx.Rows) error {
		if !rows.Next() {
			return rows.Err()
		}
		trim := int64(0)
		err := rows.Scan(&trim, &t.purges, &t.copying)
		t.trim = max(t.trim, trim)
		return err
	})
}

// queueLook adds a statement that reads the clock, the newest row and the head.
func (t *streamTop) queueLook(st *Store, row streamRow, b *pgx.Batch, now *int64) {
	text := lookChunksSQL
	if row.OneMessagePerKey {
		text = lookLatestSQL
	}
	b.Queue(st.q(text), row.id).QueryRow(func(r pgx.Row) error {
		err := r.Scan(now, &t.next, &t.at, &t.trim, &t.total, &t.messages, &t.bytes, &t.purges, &t.copying)
		if st.options.now != nil {
			*now = st.options.now()
		}
		return err
	})
}

// queue adds the statement that reads the newest row.
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

// madeChunk is a chunk that is not stored yet, with its columns.
type madeChunk struct {
	chunk      *chunk
	keys, data []byte
}

// makeChunks makes chunks of messages. Their seqs and times are not known yet.
func makeChunks(stream int64, messages []store.Message) (all []madeChunk) {
	for rest := messages; len(rest) > 0; {
		n, size := chunkLength(rest)
		keys, data, _ := encodeChunk(rest[:n])
		all = append(all, madeChunk{&chunk{stream: stream, n: n, messages: rest[:n:n], size: size}, keys, data})
		rest = rest[n:]
	}
	return all
}

// largeMessages and largeBytes are those of a send that has chunks of its own. They are made before the send waits for its turn.
// Smaller sends share chunks.
const (
	largeMessages = chunkMessages / 4
	largeBytes    = chunkBytes / 4
)

// encode makes the chunks of a large send.
func (x *sending) encode(stream int64) {
	if len(x.messages) >= largeMessages || x.bytes >= largeBytes {
		x.chunks = makeChunks(stream, x.messages)
	}
}

// chunksOf returns the chunks of sends.
func chunksOf(stream int64, sends []*sending) (all []madeChunk) {
	var small []store.Message
	for _, x := range sends {
		if x.chunks == nil {
			small = append(small, x.messages...)
			continue
		}
		all = append(append(all, makeChunks(stream, small)...), x.chunks...)
		small = nil
	}
	return append(all, makeChunks(stream, small)...)
}

// append plans chunks for the sends and adds the statement that stores them.
func (t *publishing) append(b *pgx.Batch, todo []*sending) ([]*chunk, error) {
	for _, x := range todo {
		x.published = len(x.messages)
	}
	all := chunksOf(t.p.stream.id, todo)
	if len(all) == 0 {
		return nil, nil
	}
	at := max(t.now, t.top.at)
	first, total := t.top.next, t.top.total
	var chunks []*chunk
	var firsts, totals []int64
	var counts []int32
	var keys, data [][]byte
	for _, c := range all {
		total += c.chunk.size
		c.chunk.place(first, at)
		firsts, counts, totals = append(firsts, first), append(counts, int32(c.chunk.n)), append(totals, total)
		keys, data = append(keys, c.keys), append(data, c.data)
		chunks = append(chunks, c.chunk)
		first += int64(c.chunk.n)
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
