package store

import "sort"

// entry is one version of one message. It is written once; only dead and held change, under the stream's lock.
type entry struct {
	key        string
	data       string
	seq        int64
	insertedAt int64
	updatedAt  int64
	held       int32 // consumers that have met it and not settled it
	dead       bool  // replaced, or dropped by retention
	dropped    bool  // dead by retention: no newer version follows from that
}

func (e *entry) size() int64 { return int64(len(e.key) + len(e.data)) }

func (e *entry) message() Message {
	return Message{Key: e.key, Data: e.data, Seq: e.seq, InsertedAt: e.insertedAt, UpdatedAt: e.updatedAt}
}

// log holds entries by ascending seq. Dead ones stay until they outnumber the living, so that each is moved O(1) times.
type log struct {
	entries []*entry // entries[:head] are nil
	head    int
	live    int
	bytes   int64
}

// minGarbage keeps small logs from being swept at every other message.
const minGarbage = 64

func (l *log) append(e *entry) {
	l.entries = append(l.entries, e)
	l.live++
	l.bytes += e.size()
}

// kill takes e out of the living.
func (l *log) kill(e *entry) {
	e.dead = true
	l.live--
	l.bytes -= e.size()
	for l.head < len(l.entries) && l.entries[l.head].dead {
		l.entries[l.head] = nil
		l.head++
	}
	if len(l.entries)-l.live > l.live+minGarbage {
		l.sweep()
	}
}

func (l *log) sweep() {
	kept := l.entries[:0]
	for _, e := range l.entries[l.head:] {
		if !e.dead {
			kept = append(kept, e)
		}
	}
	clear(l.entries[len(kept):])
	l.entries, l.head = kept, 0
}

// oldest returns the living entry with the lowest seq, nil when there is none.
func (l *log) oldest() *entry {
	if l.live == 0 {
		return nil
	}
	return l.entries[l.head]
}

// from returns the entries with this seq or a higher one; dead ones are among them.
func (l *log) from(seq int64) []*entry {
	all := l.entries[l.head:]
	if len(all) == 0 || all[len(all)-1].seq < seq {
		return nil
	}
	// Without replacements the seqs are dense, and the place can be computed.
	if i := seq - all[0].seq; i >= 0 && i < int64(len(all)) && all[i].seq == seq {
		return all[i:]
	}
	return all[sort.Search(len(all), func(i int) bool { return all[i].seq >= seq }):]
}

// findLast returns the newest living entry with this key, looking at every newer one: streams that append have no index
// of keys, because it would cost every send more than the rare look-up by key is worth.
func (l *log) findLast(key string) *entry {
	for i := len(l.entries) - 1; i >= l.head; i-- {
		if e := l.entries[i]; !e.dead && e.key == key {
			return e
		}
	}
	return nil
}

// list collects the messages that a query asks for.
func (l *log) list(q ListQuery) []Message {
	f := newFilter(q.Pattern)
	all := l.entries[l.head:]
	out := make([]Message, 0, min(q.Limit, l.live))
	for i := range all {
		e := all[i]
		if q.Desc {
			e = all[len(all)-1-i]
		}
		if e.dead || q.Pattern != "" && !f.match(e.key) {
			continue
		}
		if len(out) == q.Limit {
			break
		}
		out = append(out, e.message())
	}
	return out
}
