package seglog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// tail finds the end of the log: the last segment, and the last record in it. It decides whether what does not belong to a
// good record is the torn end of a log that stopped while it wrote, or damage.
type tail struct {
	log     *Log
	sizes   map[uint32]int64 // of the segments' files
	head    segmentHead      // of the last segment
	file    vfs.File
	end     Pos
	next    uint32   // the number of the next segment when the last one has its seal
	size    int64    // of its file, at least
	unused  []uint32 // files without a header behind the last segment: those that were made for the next ones
	opening uint32   // the highest that was found
	marked  bool     // the newest record is a mark
}

func (t *tail) load(files []vfs.Info) error {
	for _, h := range *t.log.snapshots.list.Load() {
		t.opening = max(t.opening, h.opening)
	}
	t.sizes = map[uint32]int64{}
	var numbers []uint32
	for _, f := range files {
		if n := segmentNumber(f.Name); n != 0 {
			t.sizes[n] = f.Size
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		h, err := t.log.readHead(n)
		if errors.Is(err, errBad) && i > 0 {
			t.unused = append(t.unused, n)
			continue
		}
		if err == nil && len(t.unused) > 0 {
			return damaged(position(t.unused[0], 0)) // the segment was synced before the next one got a header
		}
		if err == nil && i > 0 {
			err = t.follows(h)
		}
		if errors.Is(err, errBad) {
			err = damaged(position(n, 0))
		}
		if err != nil {
			return err
		}
		t.log.segments.add(h)
		t.head, t.opening = h, max(t.opening, h.opening)
	}
	if t.head.number == 0 {
		return &store.DamagedError{File: segmentName(1)}
	}
	return t.loadLast()
}

// follows checks that a segment can follow the last one, of which it says where it ends.
func (t *tail) follows(h segmentHead) error {
	last := t.head
	switch {
	case h.previous < last.number || h.previous >= h.number: // those between the two may have been removed
		return errBad
	case h.previous == last.number && h.chain != last.crc:
		return errBad
	case h.previous == last.number && t.sizes[last.number] < int64(h.end):
		return damaged(position(last.number, t.sizes[last.number]))
	}
	return nil
}

// loadLast reads the last segment.
func (t *tail) loadLast() (err error) {
	l, name := t.log, t.log.path(segmentName(t.head.number))
	if l.o.ReadOnly {
		t.file, err = l.o.FS.Open(name)
	} else {
		t.file, err = l.o.FS.OpenWrite(name)
	}
	if err != nil {
		return err
	}
	size, err := t.file.Size()
	if err != nil {
		return err
	}
	if size < int64(t.head.capacity) {
		return damaged(position(t.head.number, size)) // it had its size before it had its header
	}
	if err := t.scan(size); err != nil {
		return err
	}
	if err := t.checkDamage(size); err != nil {
		return err
	}
	if err := t.cut(); err != nil || l.o.ReadOnly {
		return err
	}
	// What the process before wrote and did not sync counts from now on.
	return t.file.Sync()
}

// errStop ends a scan.
var errStop = errors.New("stop")

// scan finds the last record.
func (t *tail) scan(size int64) error {
	newest := t.head.opening
	end, err := t.log.seed.scan(t.file, position(t.head.number, segmentHeader), size, func(f frame) error {
		// A record behind the seal, or of an earlier opening, was left behind a cut.
		if t.next != 0 || f.opening < newest {
			return errStop
		}
		newest, t.marked = f.opening, f.kind == kindMark
		if f.kind == kindSeal {
			t.next, t.size = sealedBy(f)
		}
		return nil
	})
	t.end, t.opening = end, max(t.opening, newest)
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// checkDamage returns an error when something says that what follows the end was synced.
func (t *tail) checkDamage(size int64) error {
	if t.next != 0 && (!slices.Contains(t.unused, t.next) || t.sizes[t.next] < t.size) {
		return damaged(position(t.next, t.sizes[t.next])) // it was there before the seal
	}
	synced := Pos(0)
	look := func(f frame) bool {
		synced = max(synced, f.synced)
		return synced <= t.end
	}
	if t.next == 0 {
		if err := t.log.seed.search(t.file, t.end, size, look); err != nil {
			return err
		}
	}
	for _, n := range t.unused {
		if err := t.searchUnused(n, look); err != nil {
			return err
		}
	}
	for _, h := range *t.log.snapshots.list.Load() {
		synced = max(synced, h.until)
	}
	if synced > t.end {
		return damaged(t.end)
	}
	return nil
}

func (t *tail) searchUnused(number uint32, look func(frame) bool) error {
	f, err := t.log.o.FS.Open(t.log.path(segmentName(number)))
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	return t.log.seed.search(f, position(number, 0), size, look)
}

// cut replaces the torn end of the log by zeros.
func (t *tail) cut() error {
	files := map[string]Pos{}
	if t.next == 0 {
		files[segmentName(t.head.number)] = t.end
	}
	for _, n := range t.unused {
		files[segmentName(n)] = position(n, 0)
	}
	for name, from := range files {
		if err := t.log.cutFile(name, from); err != nil {
			return fmt.Errorf("cut off the torn end of %s: %w", name, err)
		}
	}
	return nil
}

// cutFile writes zeros from a position to the end of the file.
func (l *Log) cutFile(name string, from Pos) error {
	open := l.o.FS.OpenWrite
	if l.o.ReadOnly {
		open = l.o.FS.Open
	}
	f, err := open(l.path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	dirty, err := dirtyEnd(f, from.Offset(), size)
	if err != nil || dirty == from.Offset() {
		return err
	}
	l.torn += dirty - from.Offset()
	l.o.Logger.Warn("the log ends with bytes that are no record: they were being written when it stopped",
		"file", name, "offset", from.Offset(), "bytes", dirty-from.Offset(), "cut", !l.o.ReadOnly)
	if l.o.ReadOnly {
		return nil
	}
	if err := zero(f, from.Offset(), dirty); err != nil {
		return err
	}
	return f.Sync()
}

// readHead reads the header of a segment. It returns errBad when the file has none, and store.ErrDamaged when the header is
// that of another segment or another store.
func (l *Log) readHead(number uint32) (segmentHead, error) {
	f, err := l.o.FS.Open(l.path(segmentName(number)))
	if err != nil {
		return segmentHead{}, err
	}
	defer f.Close()
	b, err := readAt(f, make([]byte, segmentHeader), 0)
	if err != nil {
		return segmentHead{}, err
	}
	h, err := decodeSegmentHead(b)
	if err == nil && (h.store != l.store || h.number != number) {
		return h, damaged(position(number, 0))
	}
	return h, err
}
