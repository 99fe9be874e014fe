package seglog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// Backup writes the log in dir, as it is at a moment of the call, to the directory to, which must be empty or not exist. Another
// process may use the log meanwhile. Segments that nobody writes to any more are linked when both directories are on one volume,
// and copied otherwise. It does not check what it copies.
func Backup(ctx context.Context, dir, to string, fsys vfs.FS) error {
	b := backup{
		from: &Log{dir: dir, o: Options{FS: fsys, ReadOnly: true}.withDefaults()},
		to:   &Log{dir: to, o: Options{FS: fsys}.withDefaults()},
	}
	return b.run(ctx)
}

// backup is a backup that runs.
type backup struct {
	from, to *Log
	last     uint32 // the segment of which an attempt has copied a part
}

// mostAttempts bounds how often a backup begins again because the store has taken a snapshot or removed a file meanwhile. Each
// attempt keeps the segments that are copied, so that the later ones are short.
const mostAttempts = 100

// errAgain means that the store has taken a snapshot meanwhile: what the one before needs may be removed.
var errAgain = errors.New("the store has taken a snapshot during each attempt to copy it")

func (b *backup) run(ctx context.Context) (err error) {
	fsys := b.to.o.FS
	if b.from.store, err = b.from.readFormat(); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds no store", b.from.dir)
	} else if err != nil {
		return err
	}
	b.from.seed, b.to.store = seedOf(b.from.store), b.from.store
	if err := fsys.MkdirAll(b.to.dir); err != nil {
		return err
	}
	files, err := fsys.List(b.to.dir)
	if err != nil {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("%s is not empty", b.to.dir)
	}
	for range mostAttempts {
		if err = b.attempt(ctx); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errAgain) {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := fsys.SyncDir(b.to.dir); err != nil {
		return err
	}
	return b.to.writeFormat() // last: where it is, all is
}

// attempt copies the snapshots first, so that the segments reach at least as far.
func (b *backup) attempt(ctx context.Context) error {
	files, err := b.from.o.FS.List(b.from.dir)
	if err != nil {
		return err
	}
	copied := snapshotsOf(files)
	if err := b.copySnapshots(copied); err != nil {
		return err
	}
	if files, err = b.from.o.FS.List(b.from.dir); err != nil {
		return err
	}
	segments, err := b.segments(files)
	if err != nil {
		return err
	}
	if err := b.removeOthers(segments); err != nil {
		return err
	}
	last := len(segments) - 1
	for i, number := range segments[:last] {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		// The one before the last may become the last again when the power is lost.
		if err := b.keepSegment(number, i < last-1); err != nil {
			return err
		}
	}
	b.last = segments[last]
	if err := b.copyLast(b.last); err != nil {
		return err
	}
	files, err = b.from.o.FS.List(b.from.dir)
	if err == nil && !slices.Equal(copied, snapshotsOf(files)) {
		err = errAgain
	}
	return err
}

// snapshotsOf returns the names of the snapshots that are complete.
func snapshotsOf(files []vfs.Info) (names []string) {
	for _, f := range files {
		if strings.HasPrefix(f.Name, snapshotPrefix) && !strings.HasSuffix(f.Name, snapshotNew) {
			names = append(names, f.Name)
		}
	}
	return names
}

// segments returns the numbers of the segments that have a header. Behind them may be one that is being made.
func (b *backup) segments(files []vfs.Info) (numbers []uint32, err error) {
	bad := uint32(0)
	for _, f := range files {
		number := segmentNumber(f.Name)
		if number == 0 {
			continue
		}
		switch _, err := b.from.readHead(number); {
		case errors.Is(err, errBad):
			bad = number
		case err != nil:
			return nil, err
		case bad != 0:
			return nil, damaged(position(bad, 0))
		default:
			numbers = append(numbers, number)
		}
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%w: %s has no segment with a header", store.ErrDamaged, b.from.dir)
	}
	return numbers, nil
}

// copySnapshots copies snapshots in place of those of the attempt before.
func (b *backup) copySnapshots(names []string) error {
	old, err := b.to.o.FS.List(b.to.dir)
	if err != nil {
		return err
	}
	for _, name := range snapshotsOf(old) {
		if err := b.to.o.FS.Remove(b.to.path(name)); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := b.copy(name, math.MaxInt64); err != nil {
			return err
		}
	}
	return nil
}

// removeOthers removes the segments of the attempt before that the store has removed since, and the part of the last one.
func (b *backup) removeOthers(segments []uint32) error {
	old, err := b.to.o.FS.List(b.to.dir)
	if err != nil {
		return err
	}
	for _, f := range old {
		number := segmentNumber(f.Name)
		if number != 0 && (number == b.last || !slices.Contains(segments, number)) {
			if err := b.to.o.FS.Remove(b.to.path(f.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepSegment links or copies a segment to which nothing is written, unless an attempt before has done so.
func (b *backup) keepSegment(number uint32, link bool) error {
	name := segmentName(number)
	if f, err := b.to.o.FS.Open(b.to.path(name)); err == nil {
		return f.Close()
	}
	if link && b.to.o.FS.Link(b.from.path(name), b.to.path(name)) == nil {
		return nil
	}
	return b.copy(name, math.MaxInt64)
}

// copyLast copies the last segment up to where its records end now, and before a seal, which names the next segment. A mark with
// a later opening follows.
func (b *backup) copyLast(number uint32) error {
	name := segmentName(number)
	file, err := b.from.o.FS.Open(b.from.path(name))
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return err
	}
	end, opening, err := b.endOf(file, number, size)
	if err != nil {
		return err
	}
	if err := b.copy(name, end.Offset()); err != nil {
		return err
	}
	return b.skipOpenings(name, header{pos: end, synced: end, opening: opening + skippedOpenings, kind: kindMark})
}

// skippedOpenings is how many openings a copy skips, so that no ack id is given out by the store and by its copy: an ack id holds the
// number of the opening. The store may be opened that often after the copy was made before the numbers meet. It is far below the
// 16,384 that ack ids tell apart.
const skippedOpenings = 256

// skipOpenings appends a mark to the last segment.
func (b *backup) skipOpenings(name string, mark header) error {
	file, err := b.to.o.FS.OpenWrite(b.to.path(name))
	if err != nil {
		return err
	}
	if _, err = file.WriteAt(appendRecord(nil, mark, nil, b.from.seed.checksum(nil)), mark.pos.Offset()); err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// endOf returns where the records of the last segment end, and the newest opening. Behind them bytes may be being written: a good
// record that is behind bad bytes and says that they were synced tells damage from that, unless they can be read by now.
func (b *backup) endOf(file vfs.File, number uint32, size int64) (end Pos, opening uint32, err error) {
	sealed := false
	end, err = b.from.seed.scan(file, position(number, segmentHeader), size, func(fr frame) error {
		if sealed = fr.kind == kindSeal; sealed {
			return errStop
		}
		opening = max(opening, fr.opening)
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	if err != nil || sealed {
		return end, opening, err
	}
	synced := false
	err = b.from.seed.search(file, end, size, func(fr frame) bool {
		synced = fr.synced > end
		return !synced
	})
	if err == nil && synced {
		if _, bad := b.from.seed.readFrame(file, end, size); bad != nil {
			err = damaged(end)
		}
	}
	return end, opening, err
}

// copyNew is the end of the name of a copy that is not complete.
const copyNew = ".copy"

// copy copies a file up to an offset. What follows is 0, so that the copy has the size of the file.
func (b *backup) copy(name string, end int64) error {
	from, err := b.from.o.FS.Open(b.from.path(name))
	if err != nil {
		return err
	}
	defer from.Close()
	size, err := from.Size()
	if err != nil {
		return err
	}
	fsys := b.to.o.FS
	to, err := fsys.Create(b.to.path(name + copyNew))
	if err != nil {
		return err
	}
	if err = copyBytes(to, from, 0, min(end, size)); err == nil {
		err = to.Truncate(size)
	}
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	return fsys.Rename(b.to.path(name+copyNew), b.to.path(name))
}
