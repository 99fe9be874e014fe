package durable

import (
	"unsafe"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// keyedLog says where the messages of a stream with one message per key are.
type keyedLog struct {
	store *Store
	index *keyindex.Index
	live  map[uint32]int64  // bytes of living messages by segment
	build *keyindex.Builder // while the messages below a snapshot are read

	purgedAt    seglog.Pos // the newest purge that left an older message
	purgedBelow []SeqRange // what was purged below the snapshot, while build is set
}

func newKeyedLog(st *Store) *keyedLog {
	return &keyedLog{store: st, index: &keyindex.Index{}, live: map[uint32]int64{}}
}

// sum hashes a message. The data's hash is not a cryptographic one: who makes two data with one hash loses an own change. That of
// a message without headers is the hash of its data alone.
func sum(key, data, headers string) keySums {
	sums := keySums{key: hashOf(key), data: hashBody(data), size: uint32(len(key) + len(data) + len(headers))}
	if headers != "" {
		hashOfHeaders := hashBody(headers)
		var both [2 * len(hash{})]byte
		copy(both[copy(both[:], sums.data[:]):], hashOfHeaders[:])
		sums.data = hash(store.HashBody(both[:]))
	}
	return sums
}

func hashBody(s string) hash { return hash(store.HashBody(unsafe.Slice(unsafe.StringData(s), len(s)))) }

// readSums reads the messages of a send.
func (r *sendRecord) readSums(in *binary.Reader) {
	var m rawMessage
	r.sums = make([]keySums, r.count)
	for i := range r.sums {
		m.read(in, r.headers)
		r.sums[i] = sum(view(m.key), view(m.data), view(m.headers))
	}
}

// blobBytes returns the sizes of messages that take blob.
func blobBytes(r *sendRecord, blob []byte) (n int64) {
	if r.sums != nil {
		return 0 // the index knows
	}
	var m rawMessage
	in := binary.NewReader(blob)
	for range r.count {
		m.read(in, r.headers)
		n += m.size()
	}
	return n
}

// add stores the messages of a send, and returns the seqs of those that they replace.
func (k *keyedLog) add(r *sendRecord, pos seglog.Pos) (replaced []int64) {
	before := k.index.Len()
	for i := range r.sums {
		m := &r.sums[i]
		if old := k.index.Find(m.key); old != nil {
			replaced = append(replaced, old.Seq)
			k.remove(old)
		}
		e := keyindex.Entry{Key: m.key, Data: m.data, Seq: r.first + int64(i), Pos: uint64(pos), InsertedAt: r.at, Size: m.size}
		if r.inserted != nil {
			e.InsertedAt -= r.inserted[i]
		}
		k.index.Add(e)
		k.live[pos.Segment()] += entryBytes(&e)
	}
	k.store.keys.Add(int64(k.index.Len() - before))
	return replaced
}

// entryBytes is about what a message takes in the log, its share of a record included.
func entryBytes(e *keyindex.Entry) int64 { return int64(e.Size) + 4 }

func (k *keyedLog) remove(e *keyindex.Entry) {
	k.dead(e)
	k.index.Remove(e)
}

// dead notes that a message's bytes are dead where it is.
func (k *keyedLog) dead(e *keyindex.Entry) {
	segment := seglog.Pos(e.Pos).Segment()
	if k.live[segment] -= entryBytes(e); k.live[segment] == 0 {
		delete(k.live, segment)
	}
}

// trim drops all messages below first, and returns their seqs.
func (k *keyedLog) trim(first int64) (dropped []int64) {
	for e := k.index.Oldest(); e != nil && e.Seq < first; e = k.index.Oldest() {
		dropped = append(dropped, e.Seq)
		k.remove(e)
	}
	k.store.keys.Add(-int64(len(dropped)))
	return dropped
}

// purge removes the messages of a range, and returns their seqs.
func (k *keyedLog) purge(r SeqRange) (gone []int64) {
	k.index.Ascend(r.First, func(e *keyindex.Entry) bool {
		if e.Seq <= r.Last {
			gone = append(gone, e.Seq)
		}
		return e.Seq < r.Last
	})
	for _, seq := range gone {
		k.remove(k.index.At(seq))
	}
	k.store.keys.Add(-int64(len(gone)))
	return gone
}

// move notes that a message was copied to pos. It does nothing when the message no longer lives at the old place.
func (k *keyedLog) move(seq int64, old, pos seglog.Pos) {
	e := k.index.At(seq)
	if e == nil || seglog.Pos(e.Pos) != old {
		return
	}
	k.dead(e)
	e.Pos = uint64(pos)
	k.live[pos.Segment()] += entryBytes(e)
}
