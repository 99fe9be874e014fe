package seglog

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

func TestASecondOpenerIsToldWhoHasTheLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b") // made with those above it
	l, err := Open(dir, Options{MinFree: -1, SegmentBytes: smallestSize})
	require.NoError(t, err)
	_, err = Open(dir, Options{})
	var locked *store.LockedError
	require.ErrorAs(t, err, &locked)
	host, _ := os.Hostname()
	require.Equal(t, store.LockedError{PID: os.Getpid(), Host: host}, *locked)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())

	l, err = Open(dir, Options{MinFree: -1})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

// noDirectories is a place where no directory can be made, such as /proc.
type noDirectories struct{ *crashfs.FS }

func (noDirectories) MkdirAll(dir string) error {
	return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrNotExist}
}

// A directory that cannot be made has no data: it is not damaged, and there is nothing to repair.
func TestADirectoryThatCannotBeMadeIsNotDamaged(t *testing.T) {
	o := small(crashfs.New())
	o.FS = noDirectories{crashfs.New()}
	_, err := Open(testDir, o)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, store.ErrDamaged)
}

func TestALogOfAnotherVersionIsNotTouched(t *testing.T) {
	f := fill(t, false)
	newer := f.edited(formatFile, func([]byte) []byte {
		next := format{Format: 2, Store: "of a kind that this version does not know"}
		next.Check = next.check()
		return next.encode()
	})
	newer.SetHook(func(op crashfs.Op) error {
		t.Errorf("%v", op)
		return nil
	})
	_, err := Open(testDir, small(newer))
	var version *store.VersionError
	require.ErrorAs(t, err, &version)
	require.Equal(t, store.VersionError{Found: 2, Known: 1}, *version)
}

// withSnapshotVersion is a copy of the log whose newest snapshot says that it has another version.
func (f *filled) withSnapshotVersion(t *testing.T, version uint32) *crashfs.FS {
	t.Helper()
	newest := ""
	for name := range f.files(t) {
		if strings.HasPrefix(name, snapshotPrefix) {
			newest = max(newest, name)
		}
	}
	return f.edited(newest, func(b []byte) []byte {
		require.EqualValues(t, snapshotVersion, binary.LittleEndian.Uint32(b[8:]))
		binary.LittleEndian.PutUint32(b[8:], version)
		binary.LittleEndian.PutUint32(b[snapshotHeader-4:], crc32.Checksum(b[:snapshotHeader-4], castagnoli))
		return b
	})
}

// A program that does not know a snapshot's version would leave out what it cannot read. Earlier versions are read.
func TestASnapshotOfANewerVersionIsRefused(t *testing.T) {
	f := fill(t, true)
	for _, unknown := range []uint32{0, snapshotVersion + 1} {
		newer := f.withSnapshotVersion(t, unknown)
		newer.SetHook(func(op crashfs.Op) error {
			require.Equal(t, crashfs.Lock, op.Kind)
			return nil
		})
		_, err := Open(testDir, small(newer))
		var version *store.VersionError
		require.ErrorAs(t, err, &version)
		require.Equal(t, store.VersionError{Found: int(unknown), Known: snapshotVersion}, *version)
	}
	for earlier := uint32(oldestSnapshot); earlier < snapshotVersion; earlier++ {
		l, err := Open(testDir, small(f.withSnapshotVersion(t, earlier)))
		require.NoError(t, err)
		all, err := replayed(l)
		require.NoError(t, err)
		require.Len(t, all, int(f.n))
		require.NoError(t, l.Close())
	}
}

func TestADirectoryThatCannotBeWrittenIsToldAtOpening(t *testing.T) {
	for _, refused := range []crashfs.Kind{crashfs.Lock, crashfs.Create} {
		for _, err := range []error{syscall.EROFS, fs.ErrPermission} {
			f := fill(t, false)
			if _, has := f.files(t)[spareFile]; has && refused == crashfs.Create {
				require.NoError(t, f.fs.Remove(filepath.Join(testDir, spareFile)))
			}
			f.fs.SetHook(func(op crashfs.Op) error {
				if op.Kind == refused {
					return err
				}
				return nil
			})
			_, got := Open(testDir, small(f.fs))
			require.ErrorIs(t, got, store.ErrReadOnly)
			require.ErrorIs(t, got, err)
		}
	}
}

func TestReadOnlyReadsAndChangesNothing(t *testing.T) {
	f := fill(t, true)
	torn := f.edited(segmentName(f.pos[len(f.pos)-1].Segment()), func(b []byte) []byte {
		return append(b[:len(b)-10], "torn bytes"...)
	})
	torn.SetHook(func(op crashfs.Op) error {
		require.Equal(t, crashfs.Lock, op.Kind)
		return nil
	})
	o := small(torn)
	o.ReadOnly = true
	l, err := Open(testDir, o)
	require.NoError(t, err)
	all, err := replayed(l)
	require.NoError(t, err)
	require.Len(t, all, int(f.n))
	require.NotZero(t, l.Torn())
	require.ErrorIs(t, l.Start(), store.ErrReadOnly)
	require.ErrorIs(t, l.Recover(), store.ErrReadOnly)
	require.ErrorIs(t, l.Wait(context.Background(), l.Append(1, 1, nil)), store.ErrReadOnly)
	rec, err := l.NewReader().Read(f.pos[100])
	require.NoError(t, err)
	require.Equal(t, numbered(100), rec.Body)
	require.NoError(t, l.Close())
}

// A directory with the files of a log and no FORMAT has lost it, unless the log was never used.
func TestALogIsNotMadeOverTheFilesOfAnother(t *testing.T) {
	f := fill(t, false)
	_, err := Open(testDir, small(f.edited(formatFile, func([]byte) []byte { return nil })))
	require.ErrorIs(t, err, store.ErrDamaged)

	only := crashfs.New()
	l, _ := started(t, small(only))
	require.NoError(t, l.Wait(context.Background(), appendNumber(l, 0)))
	require.NoError(t, l.Close())
	require.NoError(t, only.Remove(filepath.Join(testDir, formatFile)))
	_, err = Open(testDir, small(only))
	require.ErrorIs(t, err, store.ErrDamaged)
}

// While the disk is full, the rest of the segment and the spare one take acks, sends are refused, and the log can be
// opened. Sends are taken again when 1.2 times the minimum is free.
func TestAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		disk.SetCapacity(100_000)
		o := Options{FS: disk, SegmentBytes: 16 << 10, MinFree: 20_000}
		l, _ := started(t, o)
		n := uint32(0)
		send := func() error {
			if err := l.Free(); err != nil {
				return err
			}
			n++
			return l.Wait(t.Context(), appendNumber(l, n-1))
		}
		ballast, err := disk.Create("ballast")
		require.NoError(t, err)
		used := func(size int64) {
			require.NoError(t, ballast.Truncate(0))
			require.NoError(t, ballast.Allocate(size))
			time.Sleep(spaceEvery)
		}
		free, _, err := disk.Space("")
		require.NoError(t, err)
		require.NoError(t, send())
		used(free - 19_999)
		require.ErrorIs(t, send(), store.ErrDiskFull)
		used(free - 23_999)
		require.ErrorIs(t, send(), store.ErrDiskFull)
		used(free - 24_000)
		require.NoError(t, send())

		used(free) // nothing is left
		require.ErrorIs(t, send(), store.ErrDiskFull)
		require.NoError(t, l.Close())
		l, _ = started(t, o)
		require.ErrorIs(t, send(), store.ErrDiskFull)
		for len := int64(0); len < 20<<10; len += int64(recordHeader + 100) { // acks: more than a segment
			require.NoError(t, l.Wait(t.Context(), l.Append(0, 0, numbered(0))))
		}
		used(0)
		require.NoError(t, send())
		require.NoError(t, l.Close())
	})
}

// When even the spare is used up, every record is refused until there is room for a segment.
func TestADiskWithoutRoomForASegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		o := small(disk)
		l, _ := started(t, o)
		infos, err := disk.List(testDir)
		require.NoError(t, err)
		size := int64(0)
		for _, f := range infos {
			size += f.Size
		}
		disk.SetCapacity(size)
		n := uint32(0)
		for err == nil {
			if err = l.Wait(t.Context(), appendNumber(l, n)); err == nil {
				n++
			}
			require.Less(t, n, uint32(100))
		}
		require.ErrorIs(t, err, store.ErrDiskFull)
		require.ErrorIs(t, l.Free(), store.ErrDiskFull)
		require.ErrorIs(t, l.Recover(), store.ErrDiskFull)
		require.ErrorIs(t, l.Wait(t.Context(), appendNumber(l, n)), store.ErrDiskFull)
		disk.SetCapacity(0)
		require.NoError(t, l.Recover())
		all, err := replayed(l)
		require.NoError(t, err)
		require.Len(t, all, int(n))
		require.NoError(t, l.Start())
		require.NoError(t, l.Free())
		require.NoError(t, l.Wait(t.Context(), appendNumber(l, n)))
		require.NoError(t, l.Close())
		l, all = started(t, o)
		require.Len(t, all, int(n)+1)
		require.NoError(t, l.Close())
	})
}

func TestTheDefaultOfMinFree(t *testing.T) {
	l, err := Open(testDir, Options{FS: crashfs.New(), SegmentBytes: smallestSize})
	require.NoError(t, err)
	require.EqualValues(t, largestMinFree, l.space.min) // 5 % of 2 TiB are more
	require.NoError(t, l.Close())
	disk := crashfs.New()
	disk.SetCapacity(1 << 20)
	l, err = Open(testDir, Options{FS: disk, SegmentBytes: smallestSize})
	require.NoError(t, err)
	require.EqualValues(t, 1<<20/20, l.space.min)
	require.NoError(t, l.Close())
}
