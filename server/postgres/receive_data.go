package postgres

import (
	"slices"

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
	unread bool // it has a key and a seq only
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
	for in != nil && in.read() {
		if in.seq >= seq {
			key := string(in.keys[in.begin : in.begin+in.key])
			dst = append(dst, planned{Message: store.Message{Key: key, Seq: in.seq}, size: in.size(), unread: true})
		}
	}
	if in == nil || !in.whole() {
		return nil, damagedChunk(stream, r.first)
	}
	return dst, nil
}

// complete gives the results of receives, after it has read the data of what they have leased.
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
	found, err := e.readChunks(group)
	if err != nil {
		return err
	}
	for _, r := range group {
		gone := false
		for _, i := range r.unread {
			d := &r.deliveries[i]
			if m := found[d.Seq]; m != nil {
				d.Message = *m
			} else {
				gone, d.Seq = true, 0
			}
		}
		if gone {
			r.deliveries = slices.DeleteFunc(r.deliveries, func(d store.Delivery) bool { return d.Seq == 0 })
		}
		r.unread = nil
	}
	return nil
}

// readChunks returns the messages of chunks that have what is unread.
func (e *engine) readChunks(group []*request) (map[int64]*store.Message, error) {
	found, missing := map[int64]*store.Message{}, []int64(nil)
	for _, r := range group {
		for _, i := range r.unread {
			seq := r.deliveries[i].Seq
			if c := e.st.chunks.find(e.row.stream.id, seq); c != nil {
				found[seq] = c.message(seq)
			} else {
				missing = append(missing, seq)
			}
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	s, err := e.st.acquire(e.st.ctx)
	if err != nil {
		return nil, err
	}
	defer s.release()
	if err := e.st.options.fault("data"); err != nil {
		return nil, err
	}
	chunks, err := e.st.queryChunks(s, chunksOfSQL, e.row.stream.id, missing)
	for _, c := range chunks {
		for i := range c.messages {
			found[c.messages[i].Seq] = &c.messages[i]
		}
	}
	return found, err
}
