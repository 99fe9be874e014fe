package seglog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// Defaults of Options.
const (
	defaultSegment = 64 << 20
	defaultQueued  = 64 << 20
	defaultMark    = time.Second
	largestMinFree = 1 << 30
	smallestSize   = 4 << 10 // of a segment
)

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	o.SegmentBytes = min(max(cmp.Or(o.SegmentBytes, defaultSegment), smallestSize), math.MaxInt32)
	o.MaxQueued = cmp.Or(o.MaxQueued, defaultQueued)
	o.IdleMark = cmp.Or(o.IdleMark, defaultMark)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Open opens the log in dir, and makes it when dir is empty or does not exist. It starts no goroutine that outlives it but
// the one that makes the spare segment. The errors match store.ErrLocked, ErrVersion, ErrReadOnly, ErrDiskFull or
// ErrDamaged, or are those of the file system. A log of another version is not touched.
func Open(dir string, o Options) (*Log, error) {
	l := &Log{dir: dir, o: o.withDefaults()}
	if err := l.open(); err != nil {
		l.release()
		return nil, openFailure(err)
	}
	return l, nil
}

func (l *Log) open() error {
	if err := l.o.FS.MkdirAll(l.dir); err != nil {
		return err
	}
	if _, err := l.readFormat(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // before anything is touched
	}
	lock, err := l.o.FS.Lock(l.path(lockFile))
	if err != nil {
		return err
	}
	l.lock = lock
	if l.store, err = l.readFormat(); errors.Is(err, fs.ErrNotExist) {
		if err = l.mayCreate(); err == nil {
			err = l.create()
		}
	}
	if err != nil {
		return err
	}
	l.seed = seedOf(l.store)
	return l.load()
}

// mayCreate returns an error when the directory has files that a new log cannot have.
func (l *Log) mayCreate() error {
	files, err := l.o.FS.List(l.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if n := segmentNumber(f.Name); n > 1 || strings.HasPrefix(f.Name, snapshotPrefix) {
			return &store.DamagedError{File: formatFile}
		}
	}
	return nil
}

// load reads the headers and the last segment, and makes the parts of the log.
func (l *Log) load() error {
	l.segments = &segmentTable{fs: l.o.FS, path: l.path}
	files, err := l.o.FS.List(l.dir)
	if err != nil {
		return err
	}
	l.snapshots.writing = make(chan struct{}, 1)
	if err := l.loadSnapshots(files); err != nil {
		return err
	}
	t, err := l.loadSegments(files)
	if err != nil {
		return err
	}
	_, total, err := l.o.FS.Space(l.dir)
	if err != nil {
		return err
	}
	if l.o.MinFree == 0 {
		l.o.MinFree = min(largestMinFree, total/20)
	}
	l.space = &space{fs: l.o.FS, dir: l.dir, path: l.path, size: l.o.SegmentBytes, min: max(0, l.o.MinFree), logger: l.o.Logger}
	l.queue = newQueue(l.o)
	l.opening = t.opening + 1
	l.queue.store, l.queue.seed, l.queue.opening = l.store, l.seed, l.opening
	l.queue.restart(t.head, t.end, t.next)
	l.writer = &writer{
		queue: l.queue, segments: l.segments, space: l.space, logger: l.o.Logger,
		every: l.o.Policy.Every, markIn: l.o.IdleMark, file: t.file, sealed: t.next, marked: t.marked, fresh: true,
	}
	for _, f := range files {
		if f.Name == spareFile && f.Size >= l.o.SegmentBytes {
			l.space.found()
		}
	}
	l.space.prepare()
	return nil
}

// tail is the end of the log.
type tail struct {
	head    segmentHead
	end     Pos
	next    uint32 // the number of the next segment when this one has its seal
	opening uint32 // the highest that was found
	marked  bool   // the newest record is a mark
	file    vfs.File
}

func (l *Log) loadSegments(files []vfs.Info) (t tail, err error) {
	var numbers []uint32
	for _, f := range files {
		if n := segmentNumber(f.Name); n != 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		h, err := l.readHead(n)
		if errors.Is(err, errBad) && n == numbers[len(numbers)-1] && n > 1 {
			break // made and not used yet
		}
		if errors.Is(err, errBad) {
			err = damaged(position(n, 0))
		}
		if err != nil {
			return t, err
		}
		l.segments.add(h)
		t.head, t.opening = h, max(t.opening, h.opening)
	}
	if t.head.number == 0 {
		return t, &store.DamagedError{File: segmentName(1)}
	}
	if t.file, err = l.o.FS.OpenWrite(l.path(segmentName(t.head.number))); err != nil {
		return t, err
	}
	return l.loadTail(t)
}

// loadTail reads the last segment, and cuts off its torn end.
func (l *Log) loadTail(t tail) (_ tail, err error) {
	size, err := t.file.Size()
	if err != nil {
		return t, err
	}
	if size < int64(t.head.capacity) {
		return t, &store.DamagedError{File: segmentName(t.head.number), Offset: size, Position: uint64(position(t.head.number, size))}
	}
	t.end, err = l.seed.scan(t.file, position(t.head.number, segmentHeader), size, func(f frame) error {
		if t.next != 0 || f.opening < t.opening {
			return errStop
		}
		t.opening, t.marked = f.opening, f.kind == kindMark
		if f.kind == kindSeal {
			t.next = sealedBy(f)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return t, err
	}
	return t, t.file.Sync()
}

var errStop = errors.New("stop")

// readHead reads the header of a segment.
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
		return h, errBad
	}
	return h, err
}

// Replay calls f for every record from the position on. It stops at the error of f, which it returns. A bad record is a
// *store.DamagedError. Replay comes before Start.
func (l *Log) Replay(from Pos, f func(Record) error) error {
	for _, h := range l.segments.heads() {
		if h.number < from.Segment() {
			continue
		}
		s, err := l.segments.find(h.number)
		if err != nil {
			return err
		}
		first, end := position(h.number, segmentHeader), s.end
		if from.Segment() == h.number {
			first = max(first, from)
		}
		if written := l.Written(); written.Segment() == h.number {
			end = min(end, written.Offset())
		}
		stop, err := l.seed.scan(s.file, first, end, func(fr frame) error {
			if fr.own() {
				return nil
			}
			return f(fr.record())
		})
		if err != nil {
			return err
		}
		if stop.Offset() != end {
			return damaged(stop)
		}
	}
	return nil
}

// Start starts the goroutine that writes. It comes after Replay, and after Recover.
func (l *Log) Start() error {
	if err := l.Err(); err != nil {
		return err
	}
	l.writer.stopped = make(chan struct{})
	go l.writer.run()
	return nil
}

// Recover makes a log usable whose write has failed. The caller then reads its state again, with ReadSnapshot and Replay,
// and calls Start. It returns the failure when that is final, and store.ErrDiskFull while there is no room for a segment.
func (l *Log) Recover() error {
	err := l.Err()
	if err == nil || errors.Is(err, errFinal) || errors.Is(err, store.ErrClosed) {
		return err
	}
	<-l.writer.stopped
	if err := l.space.ensure(); err != nil {
		return fmt.Errorf("%w: the next segment cannot be made: %w", store.ErrDiskFull, err)
	}
	return errors.New("not yet")
}

// Close writes and syncs what is appended, ends the goroutine of Start, and releases the lock. Afterwards Wait returns
// store.ErrClosed for what is appended. It returns the error of the last writes. Only the first call does anything.
func (l *Log) Close() error {
	if l.queue.close() {
		return nil
	}
	var err error
	if l.writer.stopped != nil {
		<-l.writer.stopped
		err = l.writer.closing
	}
	l.space.wait()
	l.release()
	return err
}

// release closes the files.
func (l *Log) release() {
	if l.writer != nil {
		for _, f := range []vfs.File{l.writer.file, l.writer.next} {
			if f != nil {
				f.Close()
			}
		}
	}
	if l.segments != nil {
		l.segments.close()
	}
	if l.lock != nil {
		l.lock.Close()
	}
}

func (l *Log) path(name string) string { return filepath.Join(l.dir, name) }
