package postgres

import (
	"unsafe"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
)

// keyedBatch is what a group of sends stores in a stream with one message per key: of each key the last version that
// differs from the one before it. No consumer would see the others, but each counts as a change, as if they had been sent
// one by one.
type keyedBatch struct {
	all   []keyedMessage
	index map[string]int // of the newest entry of a key in all
}

type keyedMessage struct {
	key         string
	first, data string // the first version, and the last
	versions    int
	send        *sending
	replaced    bool // by a later entry of the same key
}

// add adds the messages of a send.
func (k *keyedBatch) add(x *sending, unmodified bool) {
	for i := range x.messages {
		m := &x.messages[i]
		j, again := k.index[m.Key]
		if !again {
			k.index[m.Key] = len(k.all)
			k.all = append(k.all, keyedMessage{key: m.Key, first: m.Data, data: m.Data, versions: 1, send: x})
			continue
		}
		old := &k.all[j]
		if old.data == m.Data && !unmodified {
			continue
		}
		old.replaced = true
		k.index[m.Key] = len(k.all)
		k.all = append(k.all, keyedMessage{key: m.Key, first: old.first, data: m.Data, versions: old.versions + 1, send: x})
	}
}

// upsert stores the sends, and adds the statements that store the new top.
func (t *publishing) upsert(b *pgx.Batch, todo []*sending) error {
	unmodified := t.p.stream.ProcessUnmodified
	batch := keyedBatch{index: map[string]int{}}
	for _, x := range todo {
		x.published = 0
		batch.add(x, unmodified)
	}
	var keys []string
	var firsts, data [][]byte
	var stored []keyedMessage
	for _, m := range batch.all {
		if m.replaced {
			continue
		}
		stored = append(stored, m)
		keys, data = append(keys, m.key), append(data, bytesOf(m.data))
		if m.versions > 1 {
			firsts = append(firsts, bytesOf(m.first))
		} else {
			firsts = append(firsts, nil)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	at, top := max(t.now, t.top.at), t.top
	rows, err := t.s.conn.Query(t.s.ctx, t.p.st.q(upsertSQL), t.p.stream.id, keys, firsts, data, top.next, at, unmodified)
	if err != nil {
		return err
	}
	var ord, size int64
	var same, changed bool
	_, err = pgx.ForEachRow(rows, []any{&ord, &same, &size, &changed}, func() error {
		m := stored[ord-1]
		m.send.published += m.versions
		if same && !unmodified {
			m.send.published--
		}
		if !changed {
			return nil
		}
		top.next++
		top.bytes += int64(len(m.key) + len(m.data))
		if size < 0 {
			top.messages++
		} else {
			top.bytes -= size
		}
		return nil
	})
	if err != nil || top.next == t.top.next {
		return err
	}
	if err := t.retainKeys(&top, at); err != nil {
		return err
	}
	b.Queue(t.p.st.q(insertMarkSQL), t.p.stream.id, top.next, at, top.messages, top.bytes)
	b.Queue(t.p.st.q(deleteMarkSQL), t.p.stream.id, t.top.next)
	return nil
}

// retainKeys drops the oldest messages that the limits of the stream do not allow.
func (t *publishing) retainKeys(top *streamTop, at int64) error {
	o := t.p.stream.StreamOptions
	over := func() bool {
		return o.MaxBytes > 0 && top.bytes > o.MaxBytes || o.RetainUpTo > 0 && top.messages > int64(o.RetainUpTo)
	}
	last := int64(0)
	for over() {
		rows, err := t.s.conn.Query(t.s.ctx, t.p.st.q(oldestLatestSQL), t.p.stream.id, last)
		if err != nil {
			return err
		}
		full, before := false, last
		var seq, size int64
		_, err = pgx.ForEachRow(rows, []any{&seq, &size}, func() error {
			if full || !over() {
				return nil
			}
			if o.MaxBytes > 0 && top.bytes > o.MaxBytes && (seq >= t.top.next || top.messages <= int64(o.RetainAtLeast)) {
				full = true
				return nil
			}
			last = seq
			top.messages--
			top.bytes -= size
			return nil
		})
		if err != nil {
			return err
		}
		if full || last == before {
			return store.ErrFull
		}
	}
	if last == 0 {
		return nil
	}
	_, err := t.s.conn.Exec(t.s.ctx, t.p.st.q(dropLatestSQL), t.p.stream.id, last, at)
	return err
}

// bytesOf returns the bytes of a string, which must not be changed. It is never nil.
func bytesOf(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
