package seglog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// readAhead is what a Reader reads at least when it does not know the size of a record.
const readAhead = 4 << 10

// Reader reads records, those that are not yet written among them. It keeps its buffer. It may be used by one goroutine at
// a time; several Readers may be used concurrently, with Append too.
type Reader struct {
	log *Log
	buf []byte
}

// NewReader returns a Reader of the log.
func (l *Log) NewReader() *Reader { return &Reader{log: l} }

// Read returns the record at pos. The body is valid until the next call of the Reader. A record that is not what was
// appended is a *store.DamagedError.
func (r *Reader) Read(pos Pos) (Record, error) {
	var found Record
	_, err := r.Run(pos, 1, func(rec Record) bool {
		found = rec
		return false
	})
	if err == nil && found.Pos != pos {
		err = fmt.Errorf("seglog: the log has no record at %s", pos)
	}
	return found, err
}

// Run calls f for the records from pos on, until f returns false or the records have maxBytes together, and never beyond
// the segment. It reads at least one record, and mostly makes one call of the system. It returns the position to go on
// from: the end of the last record that f was given, or the first record of the next segment. At the end of the log it
// returns pos. f gets bodies that are valid while it runs.
//
// A bad record is a *store.DamagedError, with f called for those before it.
func (r *Reader) Run(pos Pos, maxBytes int, f func(Record) bool) (next Pos, err error) {
	if pos == 0 {
		pos = r.log.segments.first()
	}
	for want := max(maxBytes, readAhead); ; {
		b, err := r.fill(pos, want)
		if err != nil {
			return pos, err
		}
		next, need, err := scanRun(r.log.seed, b, pos, maxBytes, f)
		if err != nil || next != pos {
			return next, err
		}
		switch {
		case need > int64(want): // one large record
			want = int(need)
		case need > 0: // the record does not end where the others do
			return pos, damaged(pos)
		default: // the end of the log
			return pos, nil
		}
	}
}

// scanRun calls f for the records in b, which starts at pos. need is the size of the first record when it is cut off.
func scanRun(sd seed, b []byte, pos Pos, maxBytes int, f func(Record) bool) (next Pos, need int64, err error) {
	first := pos
	for len(b) > 0 {
		fr, err := sd.decode(b, pos)
		if errors.Is(err, errCut) {
			if pos == first {
				need = fr.size
			}
			return pos, need, nil
		}
		if err != nil {
			return pos, 0, damaged(pos)
		}
		if fr.kind == kindSeal {
			number, _ := sealedBy(fr)
			return position(number, segmentHeader), 0, nil
		}
		b, pos = b[fr.size:], pos+Pos(fr.size)
		if !fr.own() && !f(fr.record()) {
			return pos, 0, nil
		}
		if int64(pos-first) >= int64(maxBytes) {
			return pos, 0, nil
		}
	}
	return pos, 0, nil
}

// fill reads up to want bytes at pos, and none behind the records of the segment.
func (r *Reader) fill(pos Pos, want int) (b []byte, err error) {
	l := r.log
	if pos >= Pos(l.queue.written.Load()) {
		var ok bool
		if r.buf, ok = l.queue.copyQueued(pos, want, r.buf[:0]); ok {
			return r.buf, nil
		}
	}
	for {
		s, err := l.segments.find(pos.Segment())
		if err != nil {
			return nil, err
		}
		end := s.end
		if written := Pos(l.queue.written.Load()); written.Segment() == pos.Segment() {
			end = min(end, written.Offset())
		}
		if pos.Offset() > end && s.gap { // the next segment was removed, so that only the file says where this one ends
			return nil, damaged(pos)
		}
		if pos.Offset() > end {
			return nil, fmt.Errorf("seglog: the log has no record at %s", pos)
		}
		b = r.grow(int(min(int64(want), end-pos.Offset())))
		n, err := s.file.ReadAt(b, pos.Offset())
		switch {
		case n == len(b):
			return b, nil
		case errors.Is(err, fs.ErrClosed): // removed meanwhile
		case errors.Is(err, io.EOF): // the file has been cut
			return nil, damaged(pos)
		default:
			return nil, err
		}
	}
}

func (r *Reader) grow(n int) []byte {
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	return r.buf[:n]
}
