package postgres

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// planned is a message that a transaction may lease. What it decides needs the key and the size only.
//
// A replica that serves a consumer alone reads whole chunks, and many at once: the next transactions find them in the cache. Of a
// consumer that others serve too, another replica has leased the next messages before. Then a transaction reads keys, and the data of
// what it has leased is read when the lock is free.
type planned struct {
	store.Message
	size   int64
	unread bool  // it has a key and a seq only
	chunk  int64 // the first seq of its chunk, when it is unread
}

func plannedOf(messages []store.Message) []planned {
	all := make([]planned, len(messages))
	for i := range messages {
		all[i] = planned{Message: messages[i], size: messages[i].Size()}
	}
	return all
}

// readsKeys reports whether the transaction reads keys only.
func (t *transaction) readsKeys() bool { return t.e.shared > 0 && !t.e.row.stream.OneMessagePerKey }

// read reads messages of the stream as readRun does.
func (t *transaction) read(seq int64) (messages []planned, next int64, err error) {
	st, row := t.e.st, t.e.row.stream
	if !t.readsKeys() || st.chunks.find(row.id, seq) != nil {
		all, next, err := st.readRun(t.s, row, seq, readRows)
		return plannedOf(all), next, err
	}
	return t.readAhead(seq)
}

// fetch reads messages as Store.fetch does.
func (t *transaction) fetch(seqs []int64) (map[int64]planned, error) {
	st, row := t.e.st, t.e.row.stream
	all := make(map[int64]planned, len(seqs))
	if !t.readsKeys() {
		found, err := st.fetch(t.s, row, seqs)
		for seq, m := range found {
			all[seq] = planned{Message: m, size: m.Size()}
		}
		return all, err
	}
	if len(seqs) == 0 {
		return all, nil
	}
	rows, err := st.queryKeyRows(t.s, chunkKeysOfSQL, row.id, seqs)
	if err != nil {
		return nil, err
	}
	asked := make(map[int64]bool, len(seqs))
	for _, seq := range seqs {
		asked[seq] = true
	}
	for _, r := range rows {
		messages, err := r.appendTo(nil, row.id, 0)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if asked[m.Seq] {
				all[m.Seq] = m
			}
		}
	}
	return all, nil
}

// appendTo appends the messages of the chunk from a seq on.
func (r *keysRow) appendTo(dst []planned, stream, seq int64) ([]planned, error) {
	in := readKeys(r.first, r.n, r.keys)
	dst = slices.Grow(dst, int(min(max(r.next()-max(seq, r.first), 0), chunkMessages)))
	for in != nil && in.read() {
		if in.seq >= seq {
			key := string(in.keys[in.begin : in.begin+in.key])
			dst = append(dst, planned{Message: store.Message{Key: key, Seq: in.seq}, size: in.size(), unread: true, chunk: r.first})
		}
	}
	if in == nil || !in.whole() {
		return nil, damagedChunk(stream, r.first)
	}
	return dst, nil
}

// queueData adds a statement that reads the data of what was leased, behind the end of the transaction.
func (t *transaction) queueData(b *pgx.Batch) {
	t.data = chunkSet{}
	firsts := t.e.missing(t.group, &t.data)
	if len(firsts) == 0 || t.e.st.options.fault("leases") != nil { // then complete reads it
		return
	}
	stream := t.e.row.stream.id
	read := t.e.st.chunks.moment(t.s, stream)
	b.Queue(t.e.st.q(chunksSQL), stream, firsts).Query(func(rows pgx.Rows) error {
		chunks, err := t.e.st.collectChunks(read, stream, rows)
		if t.data = append(t.data, chunks...); errors.Is(err, store.ErrDamaged) {
			err = nil // what is decided is stored: complete finds the damage
		}
		return err
	})
}

// chunkSet are chunks of a stream.
type chunkSet []*chunk

// message returns a message, or nil.
func (all chunkSet) message(seq int64) *store.Message {
	for _, c := range all {
		if seq >= c.first && seq < c.next() {
			return c.message(seq)
		}
	}
	return nil
}

// missing returns the first seqs of chunks that have what receives have not read. Those in the cache it adds to have.
func (e *engine) missing(group []*request, have *chunkSet) (firsts []int64) {
	for _, r := range group {
		if len(r.unread) == 0 {
			continue
		}
		for _, first := range r.chunks {
			if c := e.st.chunks.find(e.row.stream.id, first); c != nil {
				*have = append(*have, c)
			} else {
				firsts = append(firsts, first)
			}
		}
	}
	slices.Sort(firsts)
	return slices.Compact(firsts)
}

// fill gives deliveries their data. Those whose messages are not there stay unread.
func (r *request) fill(data chunkSet) {
	left := r.unread[:0]
	for _, i := range r.unread {
		if m := data.message(r.deliveries[i].Seq); m != nil {
			r.deliveries[i].Message = *m
		} else {
			left = append(left, i)
		}
	}
	r.unread = left
}

// complete gives the results of receives, after it has read the data of what they have leased and have not read yet.
func (e *engine) complete(group []*request) {
	err := e.st.retry(e.st.ctx, func() error { return e.readData(group) })
	for _, r := range group {
		if err != nil && len(r.deliveries) > 0 { // nobody would get them before their leases end
			e.start(e.settling(idsOf(r.deliveries), backlog.Return, 0))
		}
	}
	e.answer(group, err)
}

// readData reads the data of what receives have leased. What is gone by now is left out: the next transaction ends its lease.
func (e *engine) readData(group []*request) error {
	var data chunkSet
	firsts := e.missing(group, &data)
	if len(firsts) > 0 {
		s, err := e.st.acquire(e.st.ctx)
		if err != nil {
			return err
		}
		defer s.release()
		if err := e.st.options.fault("data"); err != nil {
			return err
		}
		read, err := e.st.queryChunks(s, chunksSQL, e.row.stream.id, firsts)
		if err != nil {
			return err
		}
		data = append(data, read...)
	}
	for _, r := range group {
		r.fill(data)
		for n, i := range r.unread {
			r.deliveries = slices.Delete(r.deliveries, i-n, i-n+1)
		}
		r.unread = nil
	}
	return nil
}
