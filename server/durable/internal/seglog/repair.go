package seglog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
)

// Repair writes a log to the directory to, which must be empty or not exist, with everything that can be read of the log in
// dir: each good record at its position, and each snapshot that is whole. A record of KindLost stands for each run of bytes
// that are bad, and for each segment that is missing. The log in dir is not changed. The report says what Check says of it.
func Repair(ctx context.Context, dir, to string, o Survey) (Report, error) {
	s := newSurveyor(ctx, dir, o)
	defer s.log.release()
	if err := s.begin(); err != nil {
		return s.report, err
	}
	if err := s.check(); err != nil {
		return s.report, err
	}
	r := &repairer{from: s, fs: s.log.o.FS, to: &Log{dir: to, o: s.log.o, store: s.log.store}}
	if list := *s.log.snapshots.list.Load(); len(list) > 0 {
		r.base = list[0].from.Segment()
	}
	if err := r.run(); err != nil {
		return s.report, fmt.Errorf("write the repaired log: %w", err)
	}
	return s.report, nil
}

// repairer writes the repaired log.
type repairer struct {
	from *surveyor
	fs   vfs.FS
	to   *Log        // has no more than is needed for writing files
	base uint32      // the segment in which replay starts
	last segmentHead // of the segment that was written last
	end  int64       // of its records
}

func (r *repairer) run() error {
	if err := r.fs.MkdirAll(r.to.dir); err != nil {
		return err
	}
	files, err := r.fs.List(r.to.dir)
	if err != nil {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("%s is not empty", r.to.dir)
	}
	s := r.from
	used := slices.DeleteFunc(slices.Clone(s.found), func(f foundSegment) bool { return !f.pieces.used })
	for i, f := range used {
		if err := context.Cause(s.ctx); err != nil {
			return err
		}
		if p := f.previous(); p > r.last.number && r.needed(p) {
			if err := r.fill(p, f.number); err != nil {
				return err
			}
		}
		next := s.lostEnd
		if i+1 < len(used) {
			next = r.after(f.number, used[i+1])
		}
		if err := r.copySegment(f, next); err != nil {
			return err
		}
	}
	if s.lostEnd != 0 || len(used) == 0 {
		if err := r.fill(max(s.lostEnd, 1), 0); err != nil {
			return err
		}
	}
	return r.finish()
}

// after returns the number of the segment that follows in the repaired log.
func (r *repairer) after(number uint32, next foundSegment) uint32 {
	if p := next.previous(); p > number && r.needed(p) {
		return p
	}
	return next.number
}

// needed reports whether a segment may not be absent: it was not removed, or no snapshot holds what it did.
func (r *repairer) needed(number uint32) bool {
	return !r.from.log.removed.has(number) || number >= r.base
}

// fill writes a segment that stands for those that are missing.
func (r *repairer) fill(number, next uint32) error {
	g := gap{from: position(number, segmentHeader), to: position(number, segmentHeader+recordHeader), opening: r.last.opening}
	for _, h := range *r.from.log.snapshots.list.Load() {
		if h.from.Segment() == number {
			g.to = max(g.to, h.from+recordHeader)
		}
	}
	file, err := r.create(number, max(smallestSize, g.to.Offset()), r.last.opening)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := r.lost(file, g); err != nil {
		return err
	}
	return r.seal(file, g.to, next)
}

// lost writes records of KindLost over a gap: two where a snapshot says that replay starts inside.
func (r *repairer) lost(file vfs.File, g gap) error {
	for _, h := range *r.from.log.snapshots.list.Load() {
		if g.from < h.from && h.from < g.to {
			if err := r.lost(file, gap{g.from, h.from, g.opening}); err != nil {
				return err
			}
			g.from = h.from
		}
	}
	size := int64(g.to - g.from)
	if size < recordHeader {
		return fmt.Errorf("the %d bad bytes at %s are too few for a record", size, g.from)
	}
	return r.write(file, header{pos: g.from, opening: g.opening, kind: KindLost}, make([]byte, size-recordHeader))
}

// copySegment writes the good records of a segment at their positions. next is 0 for the last segment.
func (r *repairer) copySegment(f foundSegment, next uint32) error {
	old, err := r.from.open(f.number)
	if err != nil {
		return err
	}
	defer old.Close()
	file, err := r.create(f.number, max(f.size, int64(f.head.capacity)), max(f.head.opening, r.last.opening))
	if err != nil {
		return err
	}
	defer file.Close()
	end := f.pieces.end
	if f.pieces.seal != 0 {
		end = f.pieces.seal // it is written again, with the number of the segment that follows here
	}
	if err := copyBytes(file, old, segmentHeader, min(end.Offset(), f.size)); err != nil {
		return err
	}
	for _, g := range f.pieces.gaps {
		g.opening = max(g.opening, r.last.opening) // the header that said it may be bad
		if err := r.lost(file, g); err != nil {
			return err
		}
	}
	for _, pos := range f.pieces.removals {
		if err := r.keepRemoval(file, pos); err != nil {
			return err
		}
	}
	return r.seal(file, end, next)
}

// keepRemoval makes a mark of the record at pos, which lists removed segments, when no snapshot holds what they did: then
// they are missing.
func (r *repairer) keepRemoval(file vfs.File, pos Pos) error {
	if r.base > 0 {
		return nil
	}
	fr, err := r.from.log.seed.readFrame(file, pos, math.MaxUint32)
	if err != nil {
		return err
	}
	fr.kind = kindMark
	return r.write(file, fr.header, fr.body)
}

// create makes the file of a segment with its header, behind the one that was written last.
func (r *repairer) create(number uint32, size int64, opening uint32) (vfs.File, error) {
	head := segmentHead{
		store: r.to.store, number: number, opening: opening, capacity: uint32(size),
		previous: r.last.number, end: uint32(r.end), chain: r.last.crc,
	}
	file, err := r.fs.Create(r.to.path(segmentName(number)))
	if err != nil {
		return nil, err
	}
	if err := file.Allocate(size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if _, err := file.WriteAt(head.encode(), 0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r.last = head
	return file, nil
}

func (r *repairer) write(file vfs.File, h header, body []byte) error {
	record := appendRecord(nil, h, body, r.from.log.seed.checksum(body))
	_, err := file.WriteAt(record, h.pos.Offset())
	return err
}

// seal ends a segment, with a seal unless it is the last one.
func (r *repairer) seal(file vfs.File, end Pos, next uint32) error {
	r.end = end.Offset()
	if next != 0 {
		body := sealBody(next, smallestSize)
		if err := r.write(file, header{pos: end, opening: r.last.opening, kind: kindSeal}, body); err != nil {
			return err
		}
		r.end += sealSize
	}
	return file.Sync()
}

// finish copies the snapshots, and makes the directory that of a log.
func (r *repairer) finish() error {
	for _, h := range *r.from.log.snapshots.list.Load() {
		if err := r.copySnapshot(h); err != nil {
			return err
		}
	}
	if err := r.fs.SyncDir(r.to.dir); err != nil {
		return err
	}
	return r.to.writeFormat()
}

func (r *repairer) copySnapshot(h snapshotHead) error {
	old, err := r.fs.Open(r.from.log.path(h.name()))
	if err != nil {
		return err
	}
	defer old.Close()
	file, err := r.fs.Create(r.to.path(h.name()))
	if err != nil {
		return err
	}
	if err = copyBytes(file, old, 0, h.size); err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// copyBytes copies the bytes from an offset to another.
func copyBytes(to, from vfs.File, at, end int64) error {
	buf := make([]byte, min(scanBytes, max(0, end-at)))
	for at < end {
		b, err := readAt(from, buf[:min(int64(len(buf)), end-at)], at)
		if err == nil && len(b) == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			_, err = to.WriteAt(b, at)
		}
		if err != nil {
			return err
		}
		at += int64(len(b))
	}
	return nil
}
