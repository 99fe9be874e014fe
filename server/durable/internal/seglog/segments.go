package seglog

import (
	"io/fs"
	"math"
	"slices"
	"sync"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
)

// SegmentInfo describes a segment.
type SegmentInfo struct {
	Number uint32
	First  Pos   // of its first record
	End    Pos   // where its records end; of the last segment, where the written ones do
	Bytes  int64 // of its records
	Last   bool  // records are still written to it
}

// segment is a segment that has a header.
type segment struct {
	head segmentHead
	end  int64    // where its records end; math.MaxInt64 for the last one
	next uint32   // 0 for the last one, and before a segment that was removed
	gap  bool     // the segment behind it was removed: end is that of the file, and a seal is the last record
	file vfs.File // for reading; nil until it is needed
}

// defaultOpenSegments are 16 GiB of the default size, and a quarter of the 1,024 files that a process often may open.
const defaultOpenSegments = 256

// segmentTable knows the segments in the order of their numbers. This file takes its lock.
type segmentTable struct {
	fs   vfs.FS
	path func(name string) string
	most int // segments that are open for reading

	mu   sync.RWMutex
	list []*segment
	open []*segment // those with a file, the one opened first in front
}

// add adds a segment behind all others, and ends the one before it.
func (t *segmentTable) add(head segmentHead) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.list); n > 0 && t.list[n-1].head.number == head.previous {
		t.list[n-1].end, t.list[n-1].next = int64(head.end), head.number
	} else if n > 0 {
		t.list[n-1].gap, t.list[n-1].end = true, t.size(t.list[n-1].head.number)
	}
	t.list = append(t.list, &segment{head: head, end: math.MaxInt64})
}

// endsAt notes where the records of a segment end, which the next segment does not say since it was removed.
func (t *segmentTable) endsAt(number uint32, end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.lookup(number); s != nil {
		s.end, s.gap = end, false
	}
}

// size returns the size of a segment's file, or math.MaxInt64 when it cannot be opened.
func (t *segmentTable) size(number uint32) int64 {
	f, err := t.fs.Open(t.path(segmentName(number)))
	if err != nil {
		return math.MaxInt64
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return math.MaxInt64
	}
	return size
}

// find returns a copy of the segment with that number, with its file open for reading.
func (t *segmentTable) find(number uint32) (segment, error) {
	t.mu.RLock()
	s := t.lookup(number)
	if s != nil && s.file != nil {
		defer t.mu.RUnlock()
		return *s, nil
	}
	t.mu.RUnlock()

	t.mu.Lock()
	defer t.mu.Unlock()
	s = t.lookup(number)
	if s == nil {
		return segment{}, &fs.PathError{Op: "read", Path: segmentName(number), Err: fs.ErrNotExist}
	}
	if s.file == nil {
		f, err := t.fs.Open(t.path(segmentName(number)))
		if err != nil {
			return segment{}, err
		}
		s.file = f
		if t.open = append(t.open, s); len(t.open) > t.most {
			t.open[0].close() // a read that runs is repeated
			t.open = slices.Delete(t.open, 0, 1)
		}
	}
	return *s, nil
}

// get returns a copy of the segment with that number.
func (t *segmentTable) get(number uint32) (segment, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.lookup(number)
	if s == nil {
		return segment{}, false
	}
	return *s, true
}

// lookup returns the segment with that number, or nil. It requires the lock.
func (t *segmentTable) lookup(number uint32) *segment {
	i, ok := slices.BinarySearchFunc(t.list, number, func(s *segment, n uint32) int { return int(int64(s.head.number) - int64(n)) })
	if !ok {
		return nil
	}
	return t.list[i]
}

// first returns the position of the first record.
func (t *segmentTable) first() Pos {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return position(t.list[0].head.number, segmentHeader)
}

// heads returns the headers of all segments.
func (t *segmentTable) heads() []segmentHead {
	t.mu.RLock()
	defer t.mu.RUnlock()
	heads := make([]segmentHead, len(t.list))
	for i, s := range t.list {
		heads[i] = s.head
	}
	return heads
}

// infos describes all segments. written is the end of the written records.
func (t *segmentTable) infos(written Pos) []SegmentInfo {
	t.mu.RLock()
	defer t.mu.RUnlock()
	infos := make([]SegmentInfo, len(t.list))
	for i, s := range t.list {
		number, end := s.head.number, s.end
		if number == written.Segment() {
			end = min(end, written.Offset())
		}
		infos[i] = SegmentInfo{
			Number: number,
			First:  position(number, segmentHeader),
			End:    position(number, end),
			Bytes:  end - segmentHeader,
			Last:   i == len(t.list)-1,
		}
	}
	return infos
}

// remove forgets a segment and closes its file.
func (t *segmentTable) remove(number uint32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, s := range t.list {
		if s.head.number == number {
			t.list = slices.Delete(t.list, i, i+1)
			t.open = slices.DeleteFunc(t.open, func(o *segment) bool { return o == s })
			return s.close()
		}
	}
	return nil
}

// close closes the files. Reads find no segment afterwards.
func (t *segmentTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.list {
		s.close()
	}
	t.list, t.open = nil, nil
}

func (s *segment) close() error {
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}
