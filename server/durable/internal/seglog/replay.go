package seglog

import (
	"github.com/sequin-go/sequin/server/internal/store"
)

// Replay calls f for every record from the position on, which is the one that ReadSnapshot returned, or one before it: then
// f gets what is left of the records below the snapshot, too. It stops at the error of f, which it returns. A bad record,
// and a file that is missing, is a *store.DamagedError. Replay comes after ReadSnapshot and before Start.
func (l *Log) Replay(from Pos, f func(Record) error) error {
	last := uint32(0) // the segment before
	for _, h := range l.segments.heads() {
		if h.number < from.Segment() {
			last = h.number
			continue
		}
		// Only what lies below the snapshot can have been removed.
		if h.previous != last && h.previous >= l.base.Segment() {
			return &store.DamagedError{File: segmentName(h.previous)}
		}
		if err := l.replaySegment(h.number, from, f); err != nil {
			return err
		}
		last = h.number
	}
	if least := max(from.Segment(), l.base.Segment()); last < least {
		return &store.DamagedError{File: segmentName(least)}
	}
	return l.checkFiles()
}

func (l *Log) replaySegment(number uint32, from Pos, f func(Record) error) error {
	s, ok := l.segments.get(number)
	if !ok {
		return nil // removed by a record that was replayed
	}
	file, err := l.o.FS.Open(l.path(segmentName(number)))
	if err != nil {
		return err
	}
	defer file.Close()
	first, end, sealed := position(number, segmentHeader), s.end, false
	if from.Segment() == number {
		first = max(first, from)
	}
	if written := l.Written(); written.Segment() == number {
		end = min(end, written.Offset())
	}
	stop, err := l.seed.scan(file, first, end, func(fr frame) error {
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
		l.segments.endsAt(number, stop.Offset())
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
