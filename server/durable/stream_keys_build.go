package durable

import (
	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
)

// readBelowSnapshot takes the messages of a record below the snapshot, to make the index of keys again. A later message of a
// key takes the place of the one before it.
func (k *keyedLog) readBelowSnapshot(rec seglog.Record) error {
	if rec.Kind == kindPurge {
		in := binary.NewReader(rec.Body)
		r := readPurge(in)
		if in.Err() != nil {
			return undecodable(rec)
		}
		k.purgedAt, k.purgedBelow = rec.Pos, append(k.purgedBelow, r.ranges...)
		return nil
	}
	return eachMessage(rec, func(m *rawMessage) bool {
		sums := sum(view(m.key), view(m.data), view(m.headers))
		k.build.Put(keyindex.Entry{
			Key: sums.key, Data: sums.data, Seq: m.seq, Pos: uint64(rec.Pos), InsertedAt: m.insertedAt, Size: sums.size,
		})
		return true
	})
}

// finish makes the index, without the messages below first.
func (k *keyedLog) finish(first int64) {
	if k.build == nil {
		return
	}
	k.index, k.build = k.build.Index(), nil
	for e := k.index.Oldest(); e != nil && e.Seq < first; e = k.index.Oldest() {
		k.index.Remove(e)
	}
	before := k.index.Len()
	for _, r := range k.purgedBelow {
		k.purge(r)
	}
	k.purgedBelow = nil
	k.store.keys.Add(int64(before - k.index.Len()))
	k.live = map[uint32]int64{}
	k.index.Ascend(0, func(e *keyindex.Entry) bool {
		k.live[seglog.Pos(e.Pos).Segment()] += entryBytes(e)
		return true
	})
	k.store.keys.Add(int64(k.index.Len()))
}

// wantsBelowSnapshot reports whether a record that the snapshot has is needed: for the index of keys.
func (s *stream) wantsBelowSnapshot(rec seglog.Record) bool {
	return s.keyed != nil && s.keyed.build != nil && (hasMessages(rec.Kind) || rec.Kind == kindPurge)
}

// applyMoved notes where cleaning has copied messages to.
func (s *stream) applyMoved(rec seglog.Record) error {
	in := binary.NewReader(rec.Body)
	var m rawMessage
	first := int64(0)
	for i := range readMovedCount(in) {
		old := readMoved(in, &m, rec.Kind)
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
