package postgres

import (
	"sort"

	"github.com/jackc/pgx/v5"
)

// keysAhead are the keys of chunks that a consumer reads next, when other replicas serve it too. They are read before the lock is
// taken, a few chunks at once, so that hardly a receive reads while it has the lock.
type keysAhead struct {
	read moment
	from int64 // all chunks are there from the one with this seq on
	rows []keysRow
}

// end returns where the keys end.
func (k *keysAhead) end() int64 {
	if len(k.rows) == 0 {
		return k.from
	}
	return k.rows[len(k.rows)-1].next()
}

// find returns the chunk that has a seq, or the first behind it, if the keys have it.
func (k *keysAhead) find(read moment, seq int64) *keysRow {
	if k.read != read || seq < k.from {
		return nil
	}
	i := sort.Search(len(k.rows), func(i int) bool { return k.rows[i].next() > seq })
	if i == len(k.rows) {
		return nil
	}
	return &k.rows[i]
}

// add adds the keys of the chunks from one with a seq on.
func (k *keysAhead) add(read moment, from int64, rows []keysRow) {
	if k.read != read || from != k.end() {
		*k = keysAhead{read: read, from: from}
	}
	k.rows = append(k.rows, rows...)
}

// forget forgets the chunks before the one with a seq.
func (k *keysAhead) forget(seq int64) {
	i := sort.Search(len(k.rows), func(i int) bool { return k.rows[i].next() > seq })
	k.rows = append([]keysRow(nil), k.rows[i:]...)
	k.from = max(k.from, seq)
}

// queueAhead adds a statement that reads keys, when there are more messages than those whose keys are there. It returns what is to be
// done with them.
func (t *transaction) queueAhead(b *pgx.Batch) (add func()) {
	st, e := t.e.st, t.e
	if st.options.pooler || !t.readsKeys() { // behind a pooler a restart of the database is not noticed
		e.ahead = keysAhead{}
	}
	if !t.locked || e.state == nil || !t.readsKeys() || !t.leases() {
		return func() {}
	}
	read, from := st.chunks.moment(t.s, e.row.stream.id), e.state.Next()
	if k := &e.ahead; k.read == read && k.from <= from && from <= k.end() {
		k.forget(from)
		if len(k.rows) > readChunks/2 {
			return func() {}
		}
		from = k.end()
	}
	if from >= e.end {
		return func() {}
	}
	var rows []keysRow
	b.Queue(st.q(chunkKeysSQL), e.row.stream.id, from, readChunks, []byte{}).Query(func(found pgx.Rows) (err error) {
		rows, err = collectKeyRows(found)
		return err
	})
	return func() { e.ahead.add(read, from, rows) }
}

// readAhead reads the messages of the next chunk with their keys.
func (t *transaction) readAhead(seq int64) (messages []planned, next int64, err error) {
	st, id := t.e.st, t.e.row.stream.id
	read := moment{t.s.epoch, t.top.purges}
	r := t.e.ahead.find(read, seq)
	if r == nil {
		rows, err := st.queryKeys(t.s, id, seq, readChunks)
		if err != nil {
			return nil, 0, err
		}
		t.e.ahead.add(read, seq, rows)
		if r = t.e.ahead.find(read, seq); r == nil {
			return nil, 0, nil // the stream ends there
		}
	}
	messages, err = r.appendTo(nil, id, seq)
	return messages, r.next(), err
}
