package durable

import (
	"github.com/sequin-go/sequin/server/durable/internal/binary"
	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
)

// keyBuilder makes the index of a stream with one message per key again, from the messages in the segments below a
// snapshot. A later message of a key takes the place of the one before it.
type keyBuilder struct {
	messages int // what the snapshot says that there are
	bytes    int64
	list     []keyindex.Entry // those of which the size is 0 and the seq too are replaced
	byKey    map[hash]uint32  // index in list
	replaced int
}

// read adds the messages of a record.
func (b *keyBuilder) read(rec seglog.Record) error {
	return eachMessage(rec, func(m *rawMessage) bool {
		sums := sum(view(m.key), view(m.data))
		b.add(keyindex.Entry{
			Key: sums.key, Data: sums.data, Seq: m.seq, Pos: uint64(rec.Pos), InsertedAt: m.insertedAt, Size: sums.size,
		})
		return true
	})
}

func (b *keyBuilder) add(e keyindex.Entry) {
	if b.byKey == nil {
		b.byKey = make(map[hash]uint32, b.messages)
		b.list = make([]keyindex.Entry, 0, b.messages)
	}
	if i, ok := b.byKey[e.Key]; ok {
		b.list[i] = keyindex.Entry{}
		if b.replaced++; b.replaced > len(b.list)/2+1024 {
			b.compact()
		}
	}
	b.byKey[e.Key] = uint32(len(b.list))
	b.list = append(b.list, e)
}

func (b *keyBuilder) compact() {
	kept := b.list[:0]
	for _, e := range b.list {
		if e.Seq != 0 {
			b.byKey[e.Key] = uint32(len(kept))
			kept = append(kept, e)
		}
	}
	b.list, b.replaced = kept, 0
}

// finish makes the index, without the messages below first.
func (k *keyedLog) finish(first int64) {
	b := k.build
	if b == nil {
		return
	}
	k.build = nil
	kept := b.list[:0]
	for _, e := range b.list {
		if e.Seq >= first && e.Seq != 0 {
			kept = append(kept, e)
		}
	}
	k.index = keyindex.Rebuild(kept)
	for i := range kept {
		k.live[seglog.Pos(kept[i].Pos).Segment()] += entryBytes(&kept[i])
	}
	k.store.keys.Add(int64(k.index.Len()))
}

// wantsBelowSnapshot reports whether a record that the snapshot has is needed: for the index of keys.
func (s *stream) wantsBelowSnapshot(rec seglog.Record) bool {
	return s.keyed != nil && s.keyed.build != nil && (rec.Kind == kindSend || rec.Kind == kindMoved)
}

// applyMoved notes where cleaning has copied messages to.
func (s *stream) applyMoved(rec seglog.Record) error {
	in := binary.NewReader(rec.Body)
	var m rawMessage
	first := int64(0)
	for i := range readMovedCount(in) {
		old := readMoved(in, &m)
		if in.Err() != nil {
			return undecodable(rec)
		}
		if i == 0 {
			first = m.seq
		}
		if s.keyed != nil {
			s.keyed.move(m.seq, old, rec.Pos)
		}
	}
	if s.keyed == nil && first > 0 {
		s.appended.move(first, m.seq, s.first, rec.Pos, int64(len(rec.Body)))
	}
	return nil
}
