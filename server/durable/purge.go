package durable

import (
	"context"
	"errors"
	"fmt"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// purgeStep is how many messages one record purges, so that the lock is not held for long. A purge of all messages is one record.
const purgeStep = 1 << 16

// purgeRecord removes messages. A range may have messages that were dead before.
type purgeRecord struct {
	bytes  int64      // of the keys and data of the messages, on a stream that appends
	ranges []SeqRange // by ascending seq
}

func (r *purgeRecord) appendTo(dst []byte) []byte {
	return appendRanges(binary.AppendInt(dst, r.bytes), r.ranges)
}

func readPurge(in *binary.Reader) purgeRecord { return purgeRecord{in.Int(), readRanges(in)} }

func appendRanges(dst []byte, ranges []SeqRange) []byte {
	dst = binary.AppendUint(dst, uint64(len(ranges)))
	for _, r := range ranges {
		dst = binary.AppendInt(dst, r.First)
		dst = binary.AppendInt(dst, r.Last)
	}
	return dst
}

func readRanges(in *binary.Reader) (ranges []SeqRange) {
	for range in.Count(2) {
		ranges = append(ranges, SeqRange{in.Int(), in.Int()})
	}
	return ranges
}

// purging is one purge. It reads keys and sizes without the lock, and removes then what still lives.
type purging struct {
	s      *stream
	query  store.PurgeQuery
	filter store.Filter
	end    int64 // seq of the last message that it may remove

	found  []purgeable // of the next record
	ranges []SeqRange
	purged int
	pos    seglog.Pos // the newest record
}

type purgeable struct{ seq, size int64 }

func (p *purging) run(ctx context.Context) (int, error) {
	s, from, whole := p.s, int64(0), false
	err := s.locked(func() error {
		if p.end = s.last; p.query.Before > 0 {
			p.end = min(p.end, p.query.Before-1)
		}
		whole = p.query.Pattern == "" && (s.keyed != nil || p.end == s.last)
		return nil
	})
	done := 0 // purged by records that are committed
	for more := true; more && err == nil; {
		if err = s.store.log.WaitRoom(ctx); err != nil {
			break
		}
		if !whole {
			from, more, err = p.find(from)
		}
		if err == nil {
			err = s.locked(func() error { return p.remove(&whole) })
		}
		if waited := s.store.committed(ctx, p.pos); err == nil {
			err = waited
		}
		if err == nil {
			done = p.purged
		}
		more = more && !whole
	}
	switch {
	case err == nil:
		return p.purged, nil
	case done > 0 && !errors.Is(err, store.ErrUnknown):
		return 0, fmt.Errorf("%w: %d messages are purged, and others may not be: %w", store.ErrUnknown, done, err)
	}
	return 0, err
}

// find finds the next messages to remove, from a seq on. It returns where to go on.
func (p *purging) find(from int64) (next int64, more bool, err error) {
	p.found, p.ranges = p.found[:0], nil
	open := false // the last range goes on
	err = p.s.scan(from, func(m *rawMessage) bool {
		if m.seq > p.end || len(p.found) == purgeStep {
			more = m.seq <= p.end
			return false
		}
		next = m.seq + 1
		switch {
		case !p.filter.Match(view(m.key)) && p.query.Pattern != "":
			open = false
			return true
		case open:
			p.ranges[len(p.ranges)-1].Last = m.seq
		default:
			p.ranges = append(p.ranges, SeqRange{m.seq, m.seq})
		}
		open = true
		p.found = append(p.found, purgeable{m.seq, m.size()})
		return true
	})
	return next, more, err
}

// remove removes what was found and still lives. It requires the lock.
func (p *purging) remove(whole *bool) error {
	s := p.s
	p.pos = max(p.pos, s.newest)
	if err := s.unchangeable(); err != nil {
		return err
	}
	r := purgeRecord{}
	before := s.messages()
	if *whole {
		if s.keyed == nil && p.query.Before == 0 {
			p.end = s.last
		}
		if s.keyed == nil && p.end < s.last {
			*whole = false // messages were sent meanwhile: the sizes of the others are needed
			return nil
		}
		p.ranges = []SeqRange{{s.first, p.end}}
		if s.keyed == nil {
			r.bytes = s.appended.bytes
		}
	}
	for _, x := range p.ranges {
		if x.First = max(x.First, s.first); x.First <= x.Last {
			r.ranges = append(r.ranges, x)
		}
	}
	living := *whole && before > 0
	for _, m := range p.found {
		if s.Alive(m.seq) {
			living = true
			r.bytes += m.size
		}
	}
	if !living || len(r.ranges) == 0 {
		return nil
	}
	p.pos = s.record(kindPurge, r.appendTo(nil))
	s.applyPurge(&r, p.pos)
	p.purged += before - s.messages()
	for _, c := range s.consumers {
		c.waiting.Update() // a message that has waited for a purged one may be available
	}
	return nil
}

// applyPurge removes messages.
func (s *stream) applyPurge(r *purgeRecord, pos seglog.Pos) {
	if len(r.ranges) == 0 {
		return
	}
	s.stored = pos
	if s.keyed != nil {
		s.purgeKeyed(r.ranges, pos)
		return
	}
	s.appended.purge(r.ranges, s.first, r.bytes)
	s.trimHoles()
	for _, c := range s.consumersAt(pos) {
		for _, x := range r.ranges {
			c.backlog.Purged(x.First, x.Last)
		}
	}
}

// purgeKeyed removes messages of a stream with one message per key. What was replaced before may still be on lease, and stays.
func (s *stream) purgeKeyed(ranges []SeqRange, pos seglog.Pos) {
	var gone []int64
	for _, x := range ranges {
		gone = append(gone, s.keyed.purge(x)...)
		if x.First <= s.first {
			s.first = max(s.first, x.Last+1)
		} else {
			s.keyed.purgedAt = pos
		}
	}
	for _, c := range s.consumersAt(pos) {
		for _, seq := range gone {
			c.backlog.Dropped(seq)
		}
	}
}

// trimHoles makes the first message one that is there, as retention expects.
func (s *stream) trimHoles() {
	if first := s.appended.holes.behind(s.first); first > s.first {
		s.first = first
		s.appended.trim(first, 0)
	}
}
