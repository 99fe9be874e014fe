package seglog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// Survey configures Check and Repair. They call Record and Snapshot, if set, in the order of the log.
type Survey struct {
	FS vfs.FS // default vfs.OS
	// Record gets every good record, and one of KindLost for each run of bad bytes. An error is a fault of the record.
	Record func(Record) error
	// Snapshot gets every snapshot that is whole, oldest first, before the first record. An error is a fault of the snapshot.
	Snapshot func(from Pos, r io.Reader) error
}

// Report says what Check or Repair has found.
type Report struct {
	Store     string // the id of the store, in hexadecimal digits
	Segments  int
	Snapshots int   // that are whole
	Records   int64 // that are good, without the log's own
	Bytes     int64 // of the segments' records
	Torn      int64 // bytes at the end that were being written when the log stopped; no fault
	Lost      int   // runs of bytes that an earlier repair could not read; no fault
	Faults    []Fault
}

// Fault is something that is not as it was written.
type Fault struct {
	File   string
	Offset int64
	Size   int64 // of the bytes that are bad; 0 when that is not known
	Pos    Pos   // of the bad bytes in the log; 0 when they are not in a segment
	Text   string
}

func (f Fault) String() string {
	s := fmt.Sprintf("%s at offset %d: %s", f.File, f.Offset, f.Text)
	if f.Size > 0 {
		s += fmt.Sprintf(" (%d bytes)", f.Size)
	}
	return s
}

// surveyor reads a log as far as that can be done.
type surveyor struct {
	ctx     context.Context
	log     *Log
	o       Survey
	report  Report
	found   []foundSegment
	lostEnd uint32 // the number of a segment behind the last one, when records at the end are lost
	until   Pos    // the highest that a snapshot says was synced
}

func newSurveyor(ctx context.Context, dir string, o Survey) *surveyor {
	return &surveyor{ctx: ctx, log: &Log{dir: dir, o: Options{FS: o.FS, ReadOnly: true}.withDefaults()}, o: o}
}

// foundSegment is the file of a segment.
type foundSegment struct {
	number uint32
	size   int64
	head   segmentHead // number is 0 when it is bad
	end    int64       // the records end here or before
	sealed bool        // the next segment says that they end here
	pieces pieces      // what read has found
}

// begin reads everything but the records.
func (s *surveyor) begin() error {
	fsys, l := s.log.o.FS, s.log
	files, err := fsys.List(l.dir)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(files, func(f vfs.Info) bool { return f.Name == formatFile || segmentNumber(f.Name) != 0 }) {
		return fmt.Errorf("%s holds no store", l.dir)
	}
	if l.lock, err = fsys.Lock(l.path(lockFile)); err != nil {
		return err
	}
	if err := s.identify(files); err != nil {
		return err
	}
	if err := s.snapshots(files); err != nil {
		return err
	}
	if err := s.heads(files); err != nil {
		return err
	}
	return s.dropRemoved()
}

// identify finds the id of the store: in FORMAT, or else in the header of a segment.
func (s *surveyor) identify(files []vfs.Info) (err error) {
	s.log.store, err = s.log.readFormat()
	if err != nil {
		if errors.Is(err, store.ErrVersion) {
			return err
		}
		s.fault(Fault{File: formatFile, Text: formatFault(err)})
		found := false
		for _, f := range files {
			if h, ok := s.anyHead(f); ok && !found {
				s.log.store, found = h.store, true
			}
		}
		if !found {
			return fmt.Errorf("%w: %s has neither a FORMAT nor a segment with a header", store.ErrDamaged, s.log.dir)
		}
	}
	s.report.Store = hex.EncodeToString(s.log.store[:])
	s.log.seed = seedOf(s.log.store)
	return nil
}

// formatFault describes why FORMAT could not be read.
func formatFault(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the file is missing"
	case errors.Is(err, store.ErrDamaged):
		return "the content is not what was written"
	}
	return err.Error()
}

// anyHead reads the header of a segment of any store.
func (s *surveyor) anyHead(f vfs.Info) (h segmentHead, ok bool) {
	if segmentNumber(f.Name) == 0 {
		return h, false
	}
	file, err := s.log.o.FS.Open(s.log.path(f.Name))
	if err != nil {
		return h, false
	}
	defer file.Close()
	b, err := readAt(file, make([]byte, segmentHeader), 0)
	if err != nil {
		return h, false
	}
	h, err = decodeSegmentHead(b)
	return h, err == nil
}

// snapshots reads all snapshots.
func (s *surveyor) snapshots(files []vfs.Info) error {
	list := []snapshotHead{}
	for _, f := range files {
		if !strings.HasPrefix(f.Name, snapshotPrefix) || strings.HasSuffix(f.Name, snapshotNew) {
			continue
		}
		h, err := s.log.checkSnapshot(f)
		if err == nil {
			list = append(list, h)
			s.until = max(s.until, h.until)
			s.report.Snapshots++
			err = s.readSnapshot(h)
		}
		if damage := (*store.DamagedError)(nil); errors.As(err, &damage) {
			s.fault(Fault{File: f.Name, Offset: damage.Offset, Text: "the snapshot is damaged"})
		} else if err != nil {
			s.fault(Fault{File: f.Name, Text: err.Error()})
		}
	}
	slices.Reverse(list)
	s.log.snapshots.list.Store(&list)
	return nil
}

// readSnapshot gives a snapshot that is whole to the caller.
func (s *surveyor) readSnapshot(h snapshotHead) error {
	r, err := s.log.openSnapshot(h)
	if err != nil {
		return err
	}
	defer r.file.Close()
	removed, err := r.next()
	if err != nil {
		return err
	}
	s.log.removed.decode(removed)
	if s.o.Snapshot == nil {
		return nil
	}
	return s.o.Snapshot(h.from, r)
}

// heads reads the headers of all segments.
func (s *surveyor) heads(files []vfs.Info) error {
	for _, f := range files {
		number := segmentNumber(f.Name)
		if number == 0 {
			continue
		}
		h, err := s.log.readHead(number)
		switch {
		case errors.Is(err, store.ErrVersion):
			return err
		case err != nil && !errors.Is(err, errBad) && !errors.Is(err, store.ErrDamaged):
			return err
		}
		if err != nil {
			h = segmentHead{} // of another segment or store, or of none
		}
		s.found = append(s.found, foundSegment{number: number, size: f.Size, head: h, end: f.Size})
	}
	slices.SortFunc(s.found, func(a, b foundSegment) int { return int(int64(a.number) - int64(b.number)) })
	for i := 1; i < len(s.found); i++ {
		if h, last := s.found[i].head, &s.found[i-1]; h.number != 0 && h.previous == last.number {
			last.end, last.sealed = int64(h.end), true
		}
	}
	return nil
}

// dropRemoved leaves out the segments that were noted as removed and whose files are left. The next opening removes them, so
// that what they hold must not be taken for what can be read. Without a snapshot they are needed.
func (s *surveyor) dropRemoved() error {
	list := *s.log.snapshots.list.Load()
	if len(list) == 0 {
		return nil
	}
	base, report := list[0].from.Segment(), s.report
	for i, f := range s.found {
		if f.number < base { // the snapshot has what they note
			continue
		}
		if err := s.ctx.Err(); err != nil {
			return context.Cause(s.ctx)
		}
		if _, err := s.read(i, nil); err != nil {
			return err
		}
	}
	s.report = report // check counts them again
	s.found = slices.DeleteFunc(s.found, func(f foundSegment) bool { return f.number < base && s.log.removed.has(f.number) })
	return nil
}

func (s *surveyor) fault(f Fault) { s.report.Faults = append(s.report.Faults, f) }

// open opens the file of a segment for reading.
func (s *surveyor) open(number uint32) (vfs.File, error) {
	return s.log.o.FS.Open(s.log.path(segmentName(number)))
}
