package store

import (
	"sort"

	"github.com/sequin-go/sequin/server/internal/headers"
)

// entry is one version of one message. Only dead, dropped and refs change after it is stored, under the stream's lock.
type entry struct {
	key        string
	text       string // the data, and behind it the packed headers: messages without headers take no memory for them
	seq        int64
	insertedAt int64
	updatedAt  int64
	refs       int32  // documented backlogs that hold it
	headers    uint16 // the length of the headers, which have at most headers.MaxBytes and 2 for each; with verbatim, Message.Verbatim
	dead       bool   // replaced or dropped
	dropped    bool   // dropped by retention or a purge: no newer version took its place
}

func (e *entry) size() int64 { return int64(len(e.key) + len(e.text)) }

// verbatim is a bit beside the length of the headers. A field of its own would take 16 bytes more for each message.
const verbatim = 1 << 15

// dataSize is the length of the data in text.
func (e *entry) dataSize() int { return len(e.text) - int(e.headers&^verbatim) }

func (e *entry) setVerbatim(set bool) {
	if set {
		e.headers |= verbatim
	}
}

func (e *entry) message() Message {
	data := e.dataSize()
	return Message{Key: e.key, Data: e.text[:data], Verbatim: e.headers&verbatim != 0, Headers: headers.Packed(e.text[data:]), Seq: e.seq, InsertedAt: e.insertedAt, UpdatedAt: e.updatedAt}
}

// holds reports whether the entry has the data and the headers of m.
func (e *entry) holds(m *Message) bool {
	data := e.dataSize()
	return e.text[:data] == m.Data && e.text[data:] == string(m.Headers)
}

// log holds the entries of a stream by ascending seq. Dead entries stay until they outnumber the live ones, so that
// compaction moves each entry O(1) times.
type log struct {
	entries []*entry // entries[:head] are nil
	head    int
	live    int
	bytes   int64 // of the live entries
}

// minGarbage keeps a small log from being compacted at every other message.
const minGarbage = 64

func (l *log) append(e *entry) {
	l.entries = append(l.entries, e)
	l.live++
	l.bytes += e.size()
}

// remove marks e as dead.
func (l *log) remove(e *entry) {
	e.dead = true
	l.live--
	l.bytes -= e.size()
	for l.head < len(l.entries) && l.entries[l.head].dead {
		l.entries[l.head] = nil
		l.head++
	}
	if len(l.entries)-l.live > l.live+minGarbage {
		l.compact()
	}
}

func (l *log) compact() {
	kept := l.entries[:0]
	for _, e := range l.entries[l.head:] {
		if !e.dead {
			kept = append(kept, e)
		}
	}
	clear(l.entries[len(kept):])
	l.entries, l.head = kept, 0
}

// oldest returns the live entry with the lowest seq, or nil.
func (l *log) oldest() *entry {
	if l.live == 0 {
		return nil
	}
	return l.entries[l.head]
}

// from returns the entries with this seq or a higher one, including dead ones.
func (l *log) from(seq int64) []*entry {
	all := l.entries[l.head:]
	if len(all) == 0 || all[len(all)-1].seq < seq {
		return nil
	}
	// Without replacements the seqs are consecutive, and the index can be computed.
	if i := seq - all[0].seq; i >= 0 && i < int64(len(all)) && all[i].seq == seq {
		return all[i:]
	}
	return all[sort.Search(len(all), func(i int) bool { return all[i].seq >= seq }):]
}

// findLast returns the newest live entry of a key, or nil. It searches backwards through the log: a stream that appends
// has no index by key, because an index would slow down every send to speed up a rare request.
func (l *log) findLast(key string) *entry {
	for i := len(l.entries) - 1; i >= l.head; i-- {
		if e := l.entries[i]; !e.dead && e.key == key {
			return e
		}
	}
	return nil
}

// list returns the live messages that a query asks for.
func (l *log) list(q ListQuery) []Message {
	f := NewFilter(q.Pattern)
	all := l.from(q.After + 1)
	if q.Before > 0 {
		all = all[:len(all)-len(l.from(max(q.Before, q.After+1)))]
	}
	out := make([]Message, 0, min(q.Limit, l.live, len(all)))
	bytes := int64(0)
	for i := range all {
		e := all[i]
		if q.Desc {
			e = all[len(all)-1-i]
		}
		if e.dead || q.Pattern != "" && !f.Match(e.key) {
			continue
		}
		if len(out) == q.Limit || bytes >= MaxAnswerBytes {
			break
		}
		out = append(out, e.message())
		bytes += e.size()
	}
	return out
}
