package seglog

import (
	"github.com/sequin-go/sequin/server/internal/store"
)

// Replay calls f for every record from the position on. It stops at the error of f, which it returns. A bad record, and a
// file that is missing, is a *store.DamagedError. Replay comes after ReadSnapshot and before Start.
func (l *Log) Replay(from Pos, f func(Record) error) error {
	heads := l.segments.heads()
	first := max(from.Segment(), 1)
	for len(heads) > 0 && heads[0].number < first {
		heads = heads[1:]
	}
	if len(heads) == 0 || heads[0].number != first {
		return &store.DamagedError{File: segmentName(first)}
	}
	snapshot := Pos(0) // below it, segments may be missing that were removed; checkFiles checks them
	if list := *l.snapshots.list.Load(); len(list) > 0 {
		snapshot = list[0].from
	}
	for i, h := range heads {
		if i > 0 && h.previous != heads[i-1].number && h.number > snapshot.Segment() {
			return &store.DamagedError{File: segmentName(h.previous)}
		}
		if err := l.replaySegment(h.number, from, f); err != nil {
			return err
		}
	}
	return l.checkFiles()
}

func (l *Log) replaySegment(number uint32, from Pos, f func(Record) error) error {
	s, err := l.segments.find(number)
	if err != nil {
		return err
	}
	first, end, sealed := position(number, segmentHeader), s.end, false
	if from.Segment() == number {
		first = max(first, from)
	}
	if written := l.Written(); written.Segment() == number {
		end = min(end, written.Offset())
	}
	stop, err := l.seed.scan(s.file, first, end, func(fr frame) error {
		sealed = fr.kind == kindSeal
		switch {
		case fr.kind == kindRemoved:
			l.removed.decode(fr.body)
			return nil
		case fr.own():
			return nil
		}
		return f(fr.record())
	})
	if err != nil {
		return err
	}
	if s.gap && sealed {
		return nil
	}
	if stop.Offset() != end || s.next != 0 && first != stop && !sealed {
		return damaged(stop)
	}
	return nil
}

// checkFiles checks that no segment is missing but those that were removed. It removes files that a process noted as
// removed and did not remove.
func (l *Log) checkFiles() error {
	before := segmentHead{} // of the segment before, of which none is missing
	for _, h := range l.segments.heads() {
		// The numbers between a segment and the one before it in the log were never used.
		for n := before.number + 1; n <= h.previous; n++ {
			if !l.removed.has(n) {
				return &store.DamagedError{File: segmentName(n)}
			}
		}
		before = h
	}
	if l.o.ReadOnly {
		return nil
	}
	for _, h := range l.segments.heads() {
		if l.removed.has(h.number) {
			if err := l.removeFile(h.number); err != nil {
				return err
			}
		}
	}
	return nil
}
