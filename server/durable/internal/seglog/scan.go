package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
)

// scanBytes is what a scan reads at once.
const scanBytes = 1 << 20

// scan calls f for the good records of a segment from pos on. It returns where they stop: at end, or at bytes that are no
// record. An error is one of reading or of f.
func (s seed) scan(file vfs.File, pos Pos, end int64, f func(frame) error) (stop Pos, err error) {
	var b []byte
	buf := make([]byte, min(scanBytes, max(0, end-pos.Offset())))
	for pos.Offset() < end {
		fr, err := s.decode(b, pos)
		if errors.Is(err, errCut) && pos.Offset()+int64(len(b)) < end {
			if pos.Offset()+fr.size > end {
				return pos, nil
			}
			buf = grown(buf, fr.size)
			n := min(int64(len(buf)), end-pos.Offset())
			if b, err = readAt(file, buf[:n], pos.Offset()); err != nil {
				return pos, err
			}
			if int64(len(b)) < n {
				end = pos.Offset() + int64(len(b)) // the file is shorter
			}
			continue
		}
		if err != nil {
			return pos, nil
		}
		if err := f(fr); err != nil {
			return pos, err
		}
		b, pos = b[fr.size:], pos+Pos(fr.size)
	}
	return pos, nil
}

// search calls f for every good record from from on, wherever it starts, until f returns false. It does not look for
// records in the body of one that it has found.
func (s seed) search(file vfs.File, from Pos, end int64, f func(frame) bool) error {
	number := binary.LittleEndian.AppendUint32(nil, from.Segment())
	const inHeader = 12 // the offset of the segment's number in a record
	buf := make([]byte, min(scanBytes, max(0, end-from.Offset())))
	for at := from.Offset(); at+recordHeader <= end; {
		b, err := readAt(file, buf[:min(int64(len(buf)), end-at)], at)
		if err != nil || len(b) < recordHeader {
			return err
		}
		// The records that start in the last bytes, which are too few for a header, are found in the next round.
		next := at + int64(len(b)) - recordHeader + 1
		for i := bytes.Index(b[inHeader:], number); i >= 0 && at+int64(i) < next; {
			start := at + int64(i) // i is where the record would start
			skip := int64(1)
			if uint32(start) == binary.LittleEndian.Uint32(b[i+inHeader-4:]) {
				fr, err := s.readFrame(file, position(from.Segment(), start), end)
				if err == nil && !f(fr) {
					return nil
				}
				if err != nil && !errors.Is(err, errBad) {
					return err
				}
				skip = max(skip, fr.size)
			}
			if next = max(next, start+skip); int64(i)+skip+inHeader >= int64(len(b)) {
				break
			}
			i += int(skip)
			if found := bytes.Index(b[i+inHeader:], number); found >= 0 {
				i += found
			} else {
				break
			}
		}
		at = next
	}
	return nil
}

// readFrame reads the record at pos, or returns errBad.
func (s seed) readFrame(file vfs.File, pos Pos, end int64) (frame, error) {
	b, err := readAt(file, make([]byte, recordHeader), pos.Offset())
	if err != nil {
		return frame{}, err
	}
	fr, err := s.decode(b, pos)
	if errors.Is(err, errCut) && fr.size > int64(len(b)) && pos.Offset()+fr.size <= end {
		if b, err = readAt(file, make([]byte, fr.size), pos.Offset()); err != nil {
			return frame{}, err
		}
		fr, err = s.decode(b, pos)
	}
	if err != nil {
		return frame{}, errBad
	}
	return fr, nil
}

// dirtyEnd returns the offset behind the last byte from from on that is not 0, or from when all are.
func dirtyEnd(file vfs.File, from, end int64) (int64, error) {
	dirty := from
	buf := make([]byte, min(scanBytes, max(0, end-from)))
	for at := from; at < end; {
		b, err := readAt(file, buf[:min(int64(len(buf)), end-at)], at)
		if err != nil || len(b) == 0 {
			return dirty, err
		}
		if rest := bytes.TrimRight(b, "\x00"); len(rest) > 0 {
			dirty = at + int64(len(rest))
		}
		at += int64(len(b))
	}
	return dirty, nil
}

// zero writes zeros from from to end.
func zero(file vfs.File, from, end int64) error {
	zeros := make([]byte, min(scanBytes, max(0, end-from)))
	for from < end {
		n, err := file.WriteAt(zeros[:min(int64(len(zeros)), end-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// readAt reads len(b) bytes, or fewer at the end of the file.
func readAt(file vfs.File, b []byte, at int64) ([]byte, error) {
	n, err := file.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

func grown(b []byte, size int64) []byte {
	if int64(len(b)) < size {
		return make([]byte, size)
	}
	return b
}
