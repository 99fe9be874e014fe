package postgres

import (
	"slices"
	"unsafe"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/headers"
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
	first, last version
	versions    int
	send        *sending
	replaced    bool // by a later entry of the same key
}

// version is what a version of a message has: a message with another one is a change.
type version struct {
	headers headers.Packed
	data    string
}

// add adds the messages of a send.
func (k *keyedBatch) add(x *sending, unmodified bool) {
	for i := range x.messages {
		m := &x.messages[i]
		v := version{m.Headers, m.Data}
		j, again := k.index[m.Key]
		if !again {
			k.index[m.Key] = len(k.all)
			k.all = append(k.all, keyedMessage{key: m.Key, first: v, last: v, versions: 1, send: x})
			continue
		}
		old := &k.all[j]
		if old.last == v && !unmodified {
			continue
		}
		old.replaced = true
		k.index[m.Key] = len(k.all)
		k.all = append(k.all, keyedMessage{key: m.Key, first: old.first, last: v, versions: old.versions + 1, send: x})
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
	stored := slices.DeleteFunc(batch.all, func(m keyedMessage) bool { return m.replaced })
	if len(stored) == 0 {
		return nil
	}
	c := columnsOf(stored)
	at, top := max(t.now, t.top.at), t.top
	rows, err := t.s.conn.Query(t.s.ctx, t.p.st.q(upsertSQL), t.p.stream.id, c.keys, c.firsts, c.data, top.next, at, unmodified, c.firstHeaders, c.headers)
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
		top.bytes += int64(len(m.key) + len(m.last.headers) + len(m.last.data))
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

// keyedColumns are the messages of an upsert as its parameters. Those of the headers are nil when no version has any.
type keyedColumns struct {
	keys                  []string
	firsts, data          [][]byte // firsts are nil where there is one version
	firstHeaders, headers [][]byte
}

func columnsOf(all []keyedMessage) (c keyedColumns) {
	headed := slices.ContainsFunc(all, func(m keyedMessage) bool { return m.first.headers != "" || m.last.headers != "" })
	for i := range all {
		m := &all[i]
		c.keys, c.data = append(c.keys, m.key), append(c.data, bytesOf(m.last.data))
		var first, firstHeaders []byte
		if m.versions > 1 {
			first, firstHeaders = bytesOf(m.first.data), bytesOf(string(m.first.headers))
		}
		c.firsts = append(c.firsts, first)
		if headed {
			c.firstHeaders, c.headers = append(c.firstHeaders, firstHeaders), append(c.headers, bytesOf(string(m.last.headers)))
		}
	}
	return c
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
