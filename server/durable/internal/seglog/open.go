package seglog

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
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
	o.OpenSegments = cmp.Or(o.OpenSegments, defaultOpenSegments)
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
	if err := l.o.FS.MkdirAll(l.dir); err != nil {
		return nil, diskFailure(err)
	}
	if err := l.open(); err != nil {
		l.release()
		return nil, openFailure(err)
	}
	return l, nil
}

func (l *Log) open() error {
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
		n := segmentNumber(f.Name)
		if n > 1 || strings.HasPrefix(f.Name, snapshotPrefix) || n == 1 && l.hasRecords() {
			return &store.DamagedError{File: formatFile}
		}
	}
	return nil
}

// hasRecords reports whether the first segment has more than a header.
func (l *Log) hasRecords() bool {
	f, err := l.o.FS.Open(l.path(segmentName(1)))
	if err != nil {
		return true
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return true
	}
	dirty, err := dirtyEnd(f, segmentHeader, size)
	return err != nil || dirty > segmentHeader
}

// load reads what is in the directory, and makes the parts of the log.
func (l *Log) load() error {
	l.segments = &segmentTable{fs: l.o.FS, path: l.path, most: l.o.OpenSegments}
	l.snapshots.writing = make(chan struct{}, 1)
	files, err := l.o.FS.List(l.dir)
	if err != nil {
		return err
	}
	if err := l.loadSnapshots(files); err != nil {
		return err
	}
	t := &tail{log: l}
	if err := t.load(files); err != nil {
		return err
	}
	l.opening = t.opening + 1
	l.queue = newQueue(l.o)
	l.queue.store, l.queue.seed, l.queue.opening = l.store, l.seed, l.opening
	l.queue.restart(t.head, t.end, t.next)
	l.writer = &writer{
		queue: l.queue, segments: l.segments, logger: l.o.Logger, every: l.o.Policy.Every, markIn: l.o.IdleMark, onSync: l.o.OnSync,
		file: t.file, ahead: map[uint32]vfs.File{}, sealed: t.next, marked: t.marked, fresh: true,
	}
	if l.o.ReadOnly {
		l.queue.fail(store.ErrReadOnly)
		return nil
	}
	return l.loadSpace(files, t)
}

// loadSpace makes the spare segment. A full disk does not prevent opening.
func (l *Log) loadSpace(files []vfs.Info, t *tail) error {
	if l.o.MinFree == 0 {
		_, total, err := l.o.FS.Space(l.dir)
		if err != nil {
			return err
		}
		l.o.MinFree = min(largestMinFree, total/20)
	}
	l.space = &space{fs: l.o.FS, dir: l.dir, path: l.path, size: l.o.SegmentBytes, min: max(0, l.o.MinFree), logger: l.o.Logger}
	l.writer.space = l.space
	for _, f := range files {
		if f.Name == spareFile && f.Size >= l.o.SegmentBytes {
			l.space.found()
		}
	}
	for _, n := range t.unused {
		if n == t.next {
			continue
		}
		if err := l.space.giveBack(vfs.Info{Name: segmentName(n), Size: t.sizes[n]}); err != nil {
			return err
		}
	}
	if err := l.space.ensure(); err != nil && !vfs.IsFull(err) {
		return err
	}
	return nil
}

func (l *Log) path(name string) string { return filepath.Join(l.dir, name) }
