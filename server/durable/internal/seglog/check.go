package seglog

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Check reads the whole log in dir and reports every fault. It takes the lock and changes nothing else. It returns an error
// when it cannot do its work: the log is in use, is of another version, or cannot be read.
func Check(ctx context.Context, dir string, o Survey) (Report, error) {
	s := newSurveyor(ctx, dir, o)
	defer s.log.release()
	if err := s.begin(); err != nil {
		return s.report, err
	}
	return s.report, s.check()
}

// check reads all records, and reports what is missing.
func (s *surveyor) check() error {
	for i := range s.found {
		if err := s.ctx.Err(); err != nil {
			return context.Cause(s.ctx)
		}
		if err := s.checkSegment(i); err != nil {
			return err
		}
	}
	s.missing()
	return nil
}

func (s *surveyor) checkSegment(i int) error {
	f := &s.found[i]
	pieces, err := s.read(i, s.o.Record)
	if err != nil {
		return err
	}
	f.pieces = pieces
	if !pieces.used {
		return nil
	}
	s.report.Segments++
	s.report.Torn += pieces.torn
	s.report.Bytes += pieces.end.Offset() - segmentHeader
	name := segmentName(f.number)
	if f.head.number == 0 {
		s.fault(Fault{File: name, Size: segmentHeader, Pos: position(f.number, 0), Text: "the header of the segment is bad"})
	}
	for _, g := range pieces.gaps {
		s.fault(Fault{File: name, Offset: g.from.Offset(), Size: int64(g.to - g.from), Pos: g.from, Text: "these bytes are no record"})
	}
	if f.head.number != 0 && i > 0 && s.found[i-1].number == f.head.previous && s.found[i-1].head.number != 0 && s.found[i-1].head.crc != f.head.chain {
		s.fault(Fault{File: name, Pos: position(f.number, 0), Text: "the header belongs behind another segment"})
	}
	if !s.usedBehind(i) && f.size < int64(f.head.capacity) {
		s.lostEnd = f.number + 1
		s.fault(Fault{File: name, Offset: f.size, Pos: position(f.number, f.size), Text: "the file is cut off"})
	}
	return nil
}

// missing reports the files that are missing, and a log that ends too early.
func (s *surveyor) missing() {
	var last foundSegment
	for _, f := range s.found {
		if !f.pieces.used {
			continue
		}
		for n := last.number + 1; n <= f.previous(); n++ {
			if !s.log.removed.has(n) {
				s.fault(Fault{File: segmentName(n), Pos: position(n, 0), Text: "the file is missing"})
			}
		}
		last = f
	}
	if next := last.pieces.next; next != 0 {
		// The file was made, with its size, before the seal was written.
		i := slices.IndexFunc(s.found, func(f foundSegment) bool { return f.number == next })
		if i < 0 || s.found[i].size < last.pieces.nextSize {
			s.lostEnd = next
			s.fault(Fault{File: segmentName(next), Pos: position(next, 0), Text: "the file is missing or cut off"})
		}
	}
	if end := last.pieces.end; end < s.until {
		s.lostEnd = max(s.lostEnd, last.number+1, s.until.Segment()+1)
		s.fault(Fault{File: segmentName(end.Segment()), Offset: end.Offset(), Pos: end,
			Text: fmt.Sprintf("the log ends here, and a snapshot holds records up to %s", s.until)})
	}
}

// previous is the number of the segment before, as far as that is known.
func (f foundSegment) previous() uint32 {
	if f.head.number == 0 {
		return f.number - 1
	}
	return f.head.previous
}

// pieces is what a segment holds.
type pieces struct {
	used     bool // it has a header or records
	end      Pos
	next     uint32 // the segment that its seal names
	nextSize int64  // of the file of that segment, at least
	gaps     []gap
	removals []Pos  // the records that list removed segments
	seal     Pos    // the position of the seal; 0 when there is none
	newest   uint32 // the opening of the newest record, or of the segment
	torn     int64  // bytes behind the end that were being written
}

// gap is a run of bytes that are no record.
type gap struct {
	from, to Pos
	opening  uint32 // of the record before
}

// read gives the records of a segment to f, which may be nil.
func (s *surveyor) read(i int, f func(Record) error) (p pieces, err error) {
	found := s.found[i]
	file, err := s.open(found.number)
	if err != nil {
		return p, err
	}
	defer file.Close()
	p.newest = found.head.opening
	p.used, p.end = found.head.number != 0, position(found.number, segmentHeader)
	for {
		stop, err := s.log.seed.scan(file, p.end, found.end, func(fr frame) error { return s.good(&p, fr, f) })
		if err != nil && !errors.Is(err, errStop) {
			return p, err
		}
		p.end = stop
		if p.seal != 0 || stop.Offset() >= found.end {
			return p, nil
		}
		// Is what follows damaged, or the torn end of the log?
		next, synced := Pos(0), s.until
		err = s.log.seed.search(file, stop+1, found.end, func(fr frame) bool {
			if next == 0 {
				next = fr.pos
			}
			synced = max(synced, fr.synced)
			return synced <= stop
		})
		if err != nil {
			return p, err
		}
		damage := found.sealed || s.usedBehind(i) || synced > stop
		switch {
		case damage && next != 0:
			p.end = next
		case damage && found.sealed:
			p.end = position(found.number, found.end)
		default:
			dirty, err := dirtyEnd(file, stop.Offset(), found.end)
			p.torn = dirty - stop.Offset()
			return p, err
		}
		p.used = true
		p.gaps = append(p.gaps, gap{stop, p.end, p.newest})
		if f != nil {
			if err := f(Record{Pos: stop, End: p.end, Kind: KindLost}); err != nil {
				s.fault(Fault{File: segmentName(found.number), Offset: stop.Offset(), Pos: stop, Text: err.Error()})
			}
		}
		if next == 0 {
			return p, nil
		}
	}
}

// good takes a good record.
func (s *surveyor) good(p *pieces, fr frame, f func(Record) error) error {
	if p.seal != 0 {
		return errStop
	}
	p.used, p.newest = true, fr.opening
	switch {
	case fr.kind == kindSeal:
		p.seal = fr.pos
		p.next, p.nextSize = sealedBy(fr)
	case fr.kind == kindRemoved:
		s.log.removed.decode(fr.body)
		p.removals = append(p.removals, fr.pos)
	case fr.kind == KindLost:
		s.report.Lost++
	case !fr.own():
		s.report.Records++
	}
	if fr.own() || f == nil {
		return nil
	}
	if err := f(fr.record()); err != nil {
		s.fault(Fault{File: segmentName(fr.pos.Segment()), Offset: fr.pos.Offset(), Size: fr.size, Pos: fr.pos, Text: err.Error()})
	}
	return nil
}

// usedBehind reports whether a later segment has a header, so that this one was synced.
func (s *surveyor) usedBehind(i int) bool {
	for _, f := range s.found[i+1:] {
		if f.head.number != 0 {
			return true
		}
	}
	return false
}
