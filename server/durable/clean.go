package durable

import (
	"context"
	"slices"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
)

// Cleaning removes segments that no living message is in. When the dead bytes exceed the living ones and cleanSlack, it
// first copies the living messages of a segment to the end of the log, as moved records.
//
// A segment is removed only when the records that made its messages dead are below both snapshots: an index of keys that is
// made again from the segments needs them until then. A message that is dead cannot come back: of a stream that appends, and of what retention has
// dropped, the stream knows the first living seq; and of a key the newest message is in a later place than all others, and
// is not removed while it lives. What was purged has neither: no segment up to the newest purge is removed before the older ones,
// so that the record of the purge, and the messages that the purged ones have replaced, outlive nothing that they made dead.

const (
	// cleanSlack keeps a small store from being copied again and again.
	cleanSlack = 128 << 20
	// moveStep is how much of a segment is copied at once, so that no send waits for long.
	moveStep = 256 << 10
)

// clean removes and copies until little enough is dead.
func (k *keeper) clean(ctx context.Context) error {
	for {
		if err := k.removeDead(ctx); err != nil {
			return err
		}
		victim := k.victim()
		if victim.Number == 0 {
			return nil
		}
		if err := k.move(ctx, victim); err != nil {
			return err
		}
	}
}

// worthTidying reports whether a segment is dead, or worth copying.
func (k *keeper) worthTidying() bool {
	live := k.store.live()
	dead := func(s seglog.SegmentInfo) bool { return !s.Last && live[s.Number] == 0 }
	return slices.ContainsFunc(k.store.log.Segments(), dead) || k.victim().Number != 0
}

// removeDead removes the segments that have had no living message since before the older snapshot.
func (k *keeper) removeDead(ctx context.Context) error {
	log, live := k.store.log, k.store.live()
	keep, end := log.KeepFrom(), log.End()
	var removed []uint32
	dead := map[uint32]seglog.Pos{}
	purged, stays := k.store.purgedIn(), false // stays: an older segment
	for _, s := range log.Segments() {
		if s.Last || live[s.Number] > 0 {
			stays = true
			continue
		}
		since, known := k.dead[s.Number]
		if !known {
			since = end
		}
		dead[s.Number] = since
		if since <= keep && s.Number < keep.Segment() && !(stays && s.Number <= purged) {
			removed = append(removed, s.Number)
		} else {
			stays = true
		}
	}
	k.dead = dead
	if len(removed) == 0 {
		return nil
	}
	return log.Remove(ctx, removed...)
}

// live returns the bytes of living messages in each segment that has some.
func (st *Store) live() map[uint32]int64 {
	live := map[uint32]int64{}
	for _, s := range st.streams.Load().all() {
		_ = s.locked(func() error {
			if s.ended == nil || failed(s.ended) {
				s.addLive(live)
			}
			return nil
		})
	}
	return live
}

func (s *stream) addLive(live map[uint32]int64) {
	if s.keyed != nil {
		for segment, bytes := range s.keyed.live {
			live[segment] += bytes
		}
		return
	}
	for _, span := range s.appended.spans {
		live[span.segment] += max(1, span.size)
	}
}

// purgedIn returns the newest segment that has a purge of a stream with one message per key, or 0.
func (st *Store) purgedIn() (segment uint32) {
	for _, s := range st.streams.Load().all() {
		_ = s.locked(func() error {
			if s.keyed != nil && s.keyed.purgedAt > 0 {
				segment = max(segment, s.keyed.purgedAt.Segment())
			}
			return nil
		})
	}
	return segment
}

// victim returns the segment to copy next, or none when little enough is dead. It is the oldest in a store that has streams
// with one message per key, where all segments get emptier with time, and the emptiest in another, so that one slow stream
// does not keep the segments of a fast one.
func (k *keeper) victim() (victim seglog.SegmentInfo) {
	live := k.store.live()
	var all, dead int64
	for _, bytes := range live {
		all += bytes
	}
	keep := k.store.log.KeepFrom().Segment()
	oldest := k.store.keys.Load() > 0
	purged := k.store.purgedIn()
	for _, s := range k.store.log.Segments() {
		if victim.Number > 0 && s.Number < keep && s.Number <= purged && live[s.Number] == 0 {
			dead += s.Bytes // it waits for the victim
		}
		if s.Number >= keep || live[s.Number] == 0 {
			continue
		}
		dead += max(0, s.Bytes-live[s.Number])
		if victim.Number == 0 || !oldest && live[s.Number] < live[victim.Number] {
			victim = s
		}
	}
	if dead <= all+k.store.options.CleanSlack {
		return seglog.SegmentInfo{}
	}
	return victim
}

// move copies the living messages of a segment.
func (k *keeper) move(ctx context.Context, segment seglog.SegmentInfo) error {
	log := k.store.log
	reader := log.NewReader()
	for pos := segment.First; pos < segment.End && pos.Segment() == segment.Number; {
		if err := log.WaitRoom(ctx); err != nil {
			return err
		}
		moving := moving{store: k.store}
		end, err := reader.Run(pos, moveStep, moving.record)
		if err == nil {
			err = moving.err
		}
		if err != nil {
			return err
		}
		moving.flush()
		if err := log.WaitWritten(ctx, moving.pos); err != nil {
			return err
		}
		if end == pos {
			break
		}
		pos = end
	}
	return nil
}

// moving copies the living messages of some records.
type moving struct {
	store  *Store
	stream *stream
	list   []rawMessage // of stream; they share the bytes of body
	body   []byte
	pos    seglog.Pos // the newest moved record
	err    error
}

// record takes the messages of a record.
func (m *moving) record(rec seglog.Record) bool {
	if !hasMessages(rec.Kind) {
		return true
	}
	s := m.store.streams.Load().number(rec.Stream)
	if s == nil {
		return true
	}
	m.err = eachMessage(rec, func(raw *rawMessage) bool {
		if n := len(m.list); n > 0 && (len(m.body) >= moveStep || s != m.stream || raw.seq <= m.list[n-1].seq) {
			m.flush()
		}
		m.stream = s
		at := len(m.body)
		m.body = append(append(append(m.body, raw.key...), raw.data...), raw.headers...)
		copied, data, headers := *raw, at+len(raw.key), at+len(raw.key)+len(raw.data)
		copied.key, copied.data, copied.headers = m.body[at:data], m.body[data:headers], m.body[headers:]
		m.list = append(m.list, copied)
		return true
	})
	return m.err == nil
}

// flush copies those of the messages that still live where they were.
func (m *moving) flush() {
	if len(m.list) > 0 {
		_ = m.stream.locked(func() error {
			if m.stream.ended == nil {
				if pos := m.stream.move(m.list); pos > 0 {
					m.pos = pos
				}
			}
			return nil
		})
	}
	m.list, m.body = m.list[:0], m.body[:0]
}

// move copies those of the messages that live where they were to the end of the log, and returns where the last copies are,
// or 0 when there are none. The seqs ascend. Of a stream that appends a record has messages that follow one another, as the
// index says where they are by the first and the last one.
func (s *stream) move(list []rawMessage) (pos seglog.Pos) {
	var living []*rawMessage
	for i := range list {
		m := &list[i]
		if !s.livesAt(m.seq, m.pos) {
			continue
		}
		if n := len(living); n > 0 && s.keyed == nil && m.seq != living[n-1].seq+1 {
			pos, living = s.moveTogether(living), living[:0]
		}
		living = append(living, m)
	}
	if len(living) > 0 {
		pos = s.moveTogether(living)
	}
	return pos
}

// moveTogether copies messages as one record.
func (s *stream) moveTogether(living []*rawMessage) seglog.Pos {
	b := buffers.get()
	defer buffers.put(b)
	b.bytes = binary.AppendUint(b.bytes[:0], uint64(len(living)))
	kind, last := kindMoved, int64(0)
	if slices.ContainsFunc(living, func(m *rawMessage) bool { return len(m.headers) > 0 }) {
		kind = kindMovedHeaders
	}
	for _, m := range living {
		b.bytes = appendMoved(b.bytes, m, last, kind)
		last = m.seq
	}
	pos := s.record(kind, b.bytes)
	if s.keyed == nil {
		s.appended.move(living[0].seq, last, s.first, pos, int64(len(b.bytes)))
		return pos
	}
	for _, m := range living {
		s.keyed.move(m.seq, m.pos, pos)
	}
	return pos
}

// livesAt reports whether the stream has a message at a place of the log.
func (s *stream) livesAt(seq int64, pos seglog.Pos) bool {
	if seq < s.first || seq > s.last {
		return false
	}
	if s.keyed != nil {
		e := s.keyed.index.At(seq)
		return e != nil && seglog.Pos(e.Pos) == pos
	}
	return !s.appended.holes.has(seq) && s.appended.entries[s.appended.find(seq)].pos.Segment() == pos.Segment()
}
