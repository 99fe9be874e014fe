package durable

import (
	"slices"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// stream is the state of a stream. Its messages are in the log. An operation is planned against the state, appended to the
// log as a record, and applied by the method that a replay of the record calls too. One lock guards the state and orders
// the records. It is never held while something is read, written or waited for. Only locked takes it; the other methods require
// it, if their comments do not say otherwise.
type stream struct {
	mu       sync.Mutex
	store    *Store
	registry *registry
	sid      uint32 // its number in records
	id       string
	at       int64 // when it was created, in nanoseconds since 1970
	options  store.StreamOptions
	created  seglog.Pos // the record that made it

	restored seglog.Pos // the state has all records below, since it comes from a snapshot
	newest   seglog.Pos // the newest record of the stream and its consumers
	stored   seglog.Pos // the newest record that stored or dropped messages

	first, last int64 // seqs; first is last+1 when nothing is left
	lastAt      int64 // time of the newest message, in microseconds since 1970
	appended    *appendedLog
	keyed       *keyedLog // instead of appended, on a stream with one message per key
	sent        successes

	consumers []*consumer // in the order of their creation
	nextCID   uint64
	ended     error // set when the stream is deleted, or the store closed or failed
	mark      store.CopyMark
}

func newStream(st *Store, g *registry, sid uint32, pos seglog.Pos, id string, at int64, o store.StreamOptions) *stream {
	s := &stream{store: st, registry: g, sid: sid, id: id, at: at, options: o, created: pos, newest: pos, stored: pos, first: 1, nextCID: 1}
	if o.OneMessagePerKey {
		s.keyed = newKeyedLog(st)
	} else {
		s.appended = &appendedLog{sizes: sizes{first: 1}}
	}
	return s
}

// record appends a record of the stream. The caller then applies it.
func (s *stream) record(kind byte, body []byte) seglog.Pos {
	s.newest = s.store.append(kind, s.sid, body)
	return s.newest
}

// Alive reports whether the stream has a message. It implements backlog.Stream.
func (s *stream) Alive(seq int64) bool {
	if seq < s.first || seq > s.last {
		return false
	}
	if s.keyed != nil {
		return s.keyed.index.At(seq) != nil
	}
	return !s.appended.holes.has(seq)
}

func (s *stream) messages() int {
	if s.keyed != nil {
		return s.keyed.index.Len()
	}
	return int(s.last - s.first + 1 - s.appended.missing)
}

func (s *stream) bytes() int64 {
	if s.keyed != nil {
		return s.keyed.index.Bytes()
	}
	return s.appended.bytes
}

func (s *stream) info() store.StreamInfo {
	at := time.Unix(0, s.at)
	return store.StreamInfo{
		StreamOptions: s.options, ID: s.id, InsertedAt: at, UpdatedAt: at,
		Messages: s.messages(), Consumers: len(s.consumers), Bytes: s.bytes(),
	}
}

// applySend stores messages and drops old ones. bytes are those of their keys and data, on a stream that appends, and
// size is that of the body of their record.
func (s *stream) applySend(r *sendRecord, pos seglog.Pos, bytes, size int64) {
	s.lastAt = max(s.lastAt, r.at)
	if r.count > 0 || r.trim > 0 {
		s.stored = pos
	}
	last := r.first + int64(r.count) - 1
	var replaced []int64
	if s.keyed != nil {
		replaced = s.keyed.add(r, pos)
	} else if r.count > 0 {
		if len(s.appended.entries) == 0 {
			s.first = r.first // what may have been before could not be saved by a repair
		}
		s.appended.add(r.first, last, pos, bytes, size)
	}
	s.last = max(s.last, last)
	for _, seq := range replaced {
		for _, c := range s.consumersAt(pos) {
			c.backlog.Replaced(seq)
		}
	}
	if r.trim > s.first {
		s.applyTrim(r.trim, r.trimBytes, pos)
	}
	if r.named {
		s.sent.remember(success{r.key, r.body, r.published, r.now})
	}
}

// applyTrim drops all messages below first.
func (s *stream) applyTrim(first, bytes int64, pos seglog.Pos) {
	s.first = first
	if s.keyed != nil {
		for _, seq := range s.keyed.trim(first) {
			for _, c := range s.consumersAt(pos) {
				c.backlog.Dropped(seq)
			}
		}
		return
	}
	s.appended.trim(first, bytes)
	for _, c := range s.consumersAt(pos) {
		c.backlog.Trimmed(first)
	}
}

// consumersAt returns the consumers whose state does not have the record at pos yet.
func (s *stream) consumersAt(pos seglog.Pos) []*consumer {
	if pos >= s.store.snapshotEnd {
		return s.consumers
	}
	return slices.DeleteFunc(slices.Clone(s.consumers), func(c *consumer) bool { return pos < c.restored })
}

func (s *stream) applyCreateConsumer(r *consumerRecord, pos seglog.Pos) *consumer {
	s.nextCID = max(s.nextCID, r.cid+1)
	if c := s.consumerNumber(r.cid); c != nil {
		return c // it is in the snapshot
	}
	c := newConsumer(s, r, pos)
	s.consumers = append(s.consumers, c)
	return c
}

func (s *stream) consumerNumber(cid uint64) *consumer {
	for _, c := range s.consumers {
		if c.cid == cid {
			return c
		}
	}
	return nil
}

// findConsumer finds a consumer by id or name, or returns nil. An id is preferred to a name that looks like one.
func (s *stream) findConsumer(ref string) *consumer {
	var named *consumer
	for _, c := range s.consumers {
		if c.info.ID == ref {
			return c
		}
		if c.info.Name == ref {
			named = c
		}
	}
	return named
}

// applyDeleteConsumer removes a consumer and ends its waits. It returns false when that was done before.
func (s *stream) applyDeleteConsumer(c *consumer) bool {
	i := slices.Index(s.consumers, c)
	if i < 0 {
		return false
	}
	s.consumers = slices.Delete(s.consumers, i, i+1)
	c.end(store.ErrNoConsumer)
	return true
}

// applyOpened applies the opening of the store.
func (s *stream) applyOpened(now int64, pos seglog.Pos) {
	s.sent.opened(now)
	for _, c := range s.consumersAt(pos) {
		c.backlog.Opened(s.last, now)
	}
}

// end ends the stream and its consumers. It wakes all receives that wait.
func (s *stream) end(err error) {
	if s.ended != nil {
		return
	}
	s.ended = err
	if err == store.ErrNoStream {
		err = store.ErrNoConsumer
		if s.keyed != nil {
			s.store.keys.Add(-int64(s.keyed.index.Len()))
		}
	}
	for _, c := range s.consumers {
		c.end(err)
	}
}

// apply applies a record of a replay.
func (s *stream) apply(rec seglog.Record) error {
	if s.keyed != nil && s.keyed.build != nil {
		if rec.Pos < s.restored {
			return s.keyed.readBelowSnapshot(rec)
		}
		s.keyed.finish(s.first)
	}
	in := binary.NewReader(rec.Body)
	switch rec.Kind {
	case kindSend, kindSendHeaders:
		r := readSendHead(in, rec.Kind)
		blob := in.Rest()
		if s.keyed != nil {
			r.readSums(in)
		}
		if in.Err() == nil {
			s.applySend(&r, rec.Pos, blobBytes(&r, blob), int64(len(rec.Body)))
		}
	case kindPurge:
		if r := readPurge(in); in.Err() == nil {
			s.applyPurge(&r, rec.Pos)
		}
	case kindMoved, kindMovedHeaders:
		if err := s.applyMoved(rec); err != nil {
			return err
		}
	case kindCopyMark:
		if mark := readCopyMark(in); in.Err() == nil {
			s.mark = mark
		}
	case kindSkip:
		if next := in.Int(); in.Err() == nil {
			s.applySkip(next, rec.Pos)
		}
	case kindRestoreConsumer:
		s.applyRestoreConsumer(in, rec.Pos)
	case kindCreateConsumer, kindCreateConsumerAt:
		if r := readConsumer(in, rec.Kind == kindCreateConsumerAt); in.Err() == nil {
			s.applyCreateConsumer(&r, rec.Pos)
		}
	default:
		c := s.consumerNumber(in.Uint())
		if c == nil || rec.Pos < c.restored {
			return nil // it was deleted, or its state in the snapshot is newer
		}
		if rec.Kind == kindDeleteConsumer {
			s.applyDeleteConsumer(c)
		} else {
			c.apply(rec, in)
		}
	}
	if in.Err() != nil {
		return undecodable(rec)
	}
	s.newest = rec.Pos
	return nil
}

// unchangeable returns why the stream and its consumers cannot be changed, or nil.
func (s *stream) unchangeable() error {
	if s.ended != nil {
		return s.ended
	}
	return s.mark.Err()
}

// locked calls f with the lock of the stream.
func (s *stream) locked(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}
