package durable

import (
	"bytes"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// How much of the log is read at once. A run covers at least one entry of the index.
const (
	smallRun = 64 << 10
	largeRun = 1 << 20
	keyRun   = 512 // messages, on a stream with one message per key
)

// run is a piece of the log that has messages of a stream.
type run struct {
	from, before int64 // it has all living messages of these seqs
	pos          seglog.Pos
	bytes        int        // how much to read at once
	purged       holes      // what it leaves out, on a stream that appends
	wanted       []location // on a stream with one message per key
	text         []byte     // only messages that contain it are asked for; nil for all. It may have others
}

type location struct {
	seq int64
	pos seglog.Pos
}

// runFrom returns the run of the oldest messages from a seq on; ok is false when there are none. It requires the lock.
func (s *stream) runFrom(from int64, bytes int) (r run, ok bool) {
	from = max(from, s.first)
	if s.keyed == nil {
		from = s.appended.holes.behind(from)
	}
	if from > s.last {
		return run{}, false
	}
	if s.keyed != nil {
		return s.keyed.runFrom(from, s.last, bytes)
	}
	entries := s.appended.entries
	i := s.appended.find(from)
	r = run{from: from, before: s.last + 1, pos: entries[i].pos, bytes: bytes}
	for j := i + 1; j < len(entries); j++ {
		next := entries[j]
		far := next.pos < entries[j-1].pos || next.pos-entries[j-1].pos > 2*indexDistance
		if far || next.pos.Segment() != r.pos.Segment() || next.pos-r.pos >= seglog.Pos(bytes) {
			r.before = next.first
			break
		}
	}
	r.before = s.appended.holes.lostFrom(from, r.before)
	r.purged = s.appended.holes.between(from, r.before)
	return r, true
}

// within reports whether a run may start at pos, where the messages before it ended. The messages of one entry of the index
// follow one another in the log; those of the next entry may be anywhere.
func (s *stream) within(r run, pos seglog.Pos) bool {
	if s.keyed != nil || pos <= r.pos || pos.Segment() != r.pos.Segment() {
		return false
	}
	return s.appended.entries[s.appended.find(r.from)].first < r.from
}

// runBefore returns a run of the newest messages below a seq.
func (s *stream) runBefore(before int64) (r run, ok bool) {
	before = min(before, s.last+1)
	if before <= s.first {
		return run{}, false
	}
	if s.keyed != nil {
		return s.keyed.runBefore(before)
	}
	l := s.appended
	if l.holes.has(before - 1) {
		before = l.holes.start(before - 1)
		if before <= s.first {
			return run{}, false
		}
	}
	e := l.entries[l.find(before-1)]
	from := l.holes.behind(l.holes.lostBefore(before, max(e.first, s.first)))
	return run{from: from, before: before, pos: e.pos, bytes: smallRun, purged: l.holes.between(from, before)}, true
}

func (k *keyedLog) runFrom(from, last int64, bytes int) (r run, ok bool) {
	r = run{from: from, before: last + 1, bytes: bytes}
	size := 0
	k.index.Ascend(from, func(e *keyindex.Entry) bool {
		if len(r.wanted) > 0 && (len(r.wanted) == keyRun || size >= bytes) {
			r.before = e.Seq
			return false
		}
		r.wanted = append(r.wanted, location{e.Seq, seglog.Pos(e.Pos)})
		size += int(e.Size)
		return true
	})
	return r, len(r.wanted) > 0
}

func (k *keyedLog) runBefore(before int64) (r run, ok bool) {
	k.index.Descend(before, func(e *keyindex.Entry) bool {
		r.wanted = append(r.wanted, location{e.Seq, seglog.Pos(e.Pos)})
		return len(r.wanted) < keyRun
	})
	n := len(r.wanted)
	if n == 0 {
		return r, false
	}
	for i := range n / 2 {
		r.wanted[i], r.wanted[n-1-i] = r.wanted[n-1-i], r.wanted[i]
	}
	r.from, r.before, r.bytes = r.wanted[0].seq, before, smallRun
	return r, true
}

// read calls f with the messages of a run by ascending seq, until f returns false. It returns the seq and the place to go
// on from, 0 for an unknown one. It needs no lock: what it reads never changes. A message that was dropped meanwhile may be among them.
func (s *stream) read(r run, f func(*rawMessage) bool) (next int64, pos seglog.Pos, err error) {
	log := s.store.readers.Get().(*seglog.Reader)
	defer s.store.readers.Put(log)
	read := runReader{stream: s, run: r, next: r.from, f: f}
	if r.wanted != nil {
		return read.places(log)
	}
	pos = r.pos
	for read.next < r.before {
		end, err := log.Run(pos, r.bytes, read.record)
		if err == nil {
			err = read.err
		}
		if err != nil || read.stopped {
			return read.next, end, err
		}
		if end == pos && read.next < r.before {
			return read.next, pos, undecodable(seglog.Record{Kind: kindSend, Pos: pos})
		}
		pos = end
	}
	if read.within || read.next > r.before {
		pos = 0 // the next message is within a record, or behind what was purged, where another entry of the index may say
	}
	return read.next, pos, nil
}

// runReader reads a run.
type runReader struct {
	stream  *stream
	run     run
	f       func(*rawMessage) bool
	next    int64 // seq of the next message
	stopped bool  // f has returned false
	within  bool  // the run ends within a record
	err     error
}

// record takes the messages from next on, of a stream that appends. The log may have older ones that were copied.
func (r *runReader) record(rec seglog.Record) bool {
	if rec.Stream != r.stream.sid || !hasMessages(rec.Kind) {
		return true
	}
	if r.skips(rec) {
		return r.next < r.run.before
	}
	r.err = eachMessage(rec, func(m *rawMessage) bool {
		if m.seq != r.next {
			return m.seq < r.next
		}
		if m.seq >= r.run.before {
			r.within = true
			return false
		}
		if r.next++; len(r.run.purged) > 0 {
			r.next = r.run.purged.behind(r.next)
		}
		r.stopped = !r.f(m)
		return !r.stopped
	})
	return r.err == nil && !r.stopped && r.next < r.run.before
}

// skips passes by a send of which all messages are next, and none has the text that is asked for. To look for its bytes costs a
// hundredth of reading the messages.
func (r *runReader) skips(rec seglog.Record) bool {
	if r.run.text == nil || !isSend(rec.Kind) || bytes.Contains(rec.Body, r.run.text) {
		return false
	}
	in := binary.NewReader(rec.Body)
	head := readSendHead(in, rec.Kind)
	end := head.first + int64(head.count)
	if in.Err() != nil || head.first > r.next || end <= r.next || end > r.run.before {
		return false
	}
	if r.next = end; len(r.run.purged) > 0 {
		r.next = r.run.purged.behind(end)
	}
	return true
}

// places reads the messages of a stream with one message per key, those that are near one another together.
func (r *runReader) places(log *seglog.Reader) (next int64, pos seglog.Pos, err error) {
	for len(r.run.wanted) > 0 {
		wanted := r.run.wanted
		last := wanted[0].pos
		for i := 1; i < len(wanted) && near(last, wanted[i].pos) && wanted[i].pos-wanted[0].pos < largeRun; i++ {
			last = wanted[i].pos
		}
		_, err := log.Run(wanted[0].pos, int(last-wanted[0].pos)+1, r.placesIn)
		if err == nil {
			err = r.err
		}
		if err == nil && len(r.run.wanted) == len(wanted) {
			err = undecodable(seglog.Record{Kind: kindSend, Pos: wanted[0].pos})
		}
		if err != nil || r.stopped {
			return r.next, 0, err
		}
	}
	return r.run.before, 0, nil
}

// placesIn takes the messages that are wanted of a record.
func (r *runReader) placesIn(rec seglog.Record) bool {
	if r.run.wanted[0].pos != rec.Pos {
		return rec.Pos < r.run.wanted[0].pos
	}
	r.err = eachMessage(rec, func(m *rawMessage) bool {
		if m.seq != r.run.wanted[0].seq {
			return m.seq < r.run.wanted[0].seq
		}
		r.next = m.seq + 1
		r.stopped = !r.f(m)
		r.run.wanted = r.run.wanted[1:]
		return !r.stopped && len(r.run.wanted) > 0 && r.run.wanted[0].pos == rec.Pos
	})
	return r.err == nil && !r.stopped && len(r.run.wanted) > 0
}

// near reports whether a record at pos is read together with one at before.
func near(before, pos seglog.Pos) bool {
	return pos >= before && pos.Segment() == before.Segment() && pos-before <= smallRun
}

// scan calls f with the living messages from a seq on, by ascending seq, until f returns false. It takes the lock for each
// run, and holds it neither while it reads nor while it calls f. A message that is dropped or replaced meanwhile may be
// left out.
func (s *stream) scan(from int64, f func(*rawMessage) bool) error { return s.scanFor(nil, from, f) }

// scanFor is scan, and may leave out messages without the text, unless that is nil.
func (s *stream) scanFor(text []byte, from int64, f func(*rawMessage) bool) error {
	stopped := false
	again := repeat{}
	for bytes := smallRun; ; bytes = min(2*bytes, largeRun) {
		var r run
		ok := false
		_ = s.locked(func() error { r, ok = s.runFrom(from, bytes); return nil })
		if !ok {
			return nil
		}
		r.text = text
		next, _, err := s.read(r, func(m *rawMessage) bool {
			stopped = !f(m)
			return !stopped
		})
		if err != nil && !again.worth(next, r) {
			return err
		}
		if stopped {
			return nil
		}
		from = next
	}
}

// scanBack calls f with the living messages between two seqs for which match returns true, by descending seq, until f returns
// false. It may leave out messages without the text, unless that is nil. It is like scan.
func (s *stream) scanBack(text []byte, after, before int64, match func(*rawMessage) bool, f func(*store.Message) bool) error {
	again := repeat{}
	for before > after+1 {
		var r run
		ok := false
		_ = s.locked(func() error { r, ok = s.runBefore(before); return nil })
		if !ok {
			return nil
		}
		r.text = text
		var messages []store.Message
		_, _, err := s.read(r, func(m *rawMessage) bool {
			if m.seq > after && match(m) {
				messages = append(messages, m.message())
			}
			return true
		})
		if err != nil {
			if !again.worth(r.from, r) {
				return err
			}
			continue
		}
		for i := len(messages) - 1; i >= 0; i-- {
			if !f(&messages[i]) {
				return nil
			}
		}
		before = r.from
	}
	return nil
}

// fetch calls f with those of the messages that live, which it finds by their ascending seqs.
func (s *stream) fetch(seqs []int64, f func(*rawMessage)) error {
	again := repeat{}
	for len(seqs) > 0 {
		var r run
		ok := false
		_ = s.locked(func() error {
			for len(seqs) > 0 && !s.Alive(seqs[0]) {
				seqs = seqs[1:]
			}
			if len(seqs) > 0 {
				r, ok = s.runFrom(seqs[0], smallRun)
			}
			return nil
		})
		if !ok {
			return nil
		}
		next, _, err := s.read(r, func(m *rawMessage) bool {
			for len(seqs) > 0 && seqs[0] < m.seq {
				seqs = seqs[1:]
			}
			if len(seqs) > 0 && seqs[0] == m.seq {
				f(m)
				seqs = seqs[1:]
			}
			return len(seqs) > 0 && seqs[0] < r.before
		})
		if err != nil && !again.worth(next, r) {
			return err
		}
	}
	return nil
}

// repeat says whether a read that has failed is worth another try.
type repeat struct{ last run }

// worth reports whether messages were read before the failure, or whether the run is another one than before: cleaning may
// have moved the messages, and removed their segment, between the look at the index and the read.
func (a *repeat) worth(next int64, r run) bool {
	moved := next > r.from || a.last.from != r.from || a.last.place() != r.place()
	a.last = r
	return moved
}

// place is where a run starts.
func (r run) place() seglog.Pos {
	if len(r.wanted) > 0 {
		return r.wanted[0].pos
	}
	return r.pos
}
