package seglog

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// sealed is a running log with two snapshots, and segments below both.
func sealed(t *testing.T, fs *crashfs.FS) (l *Log, n uint32, numbers []uint32) {
	l, _ = started(t, small(fs))
	for range 2 {
		for range 100 {
			appendNumber(l, n)
			n++
		}
		require.NoError(t, snapshotOf(l, l.End(), n))
	}
	for _, s := range l.Segments() {
		if s.Number < l.KeepFrom().Segment() {
			numbers = append(numbers, s.Number)
		}
	}
	require.GreaterOrEqual(t, len(numbers), 3)
	return l, n, numbers
}

func TestSegmentsAreRemovedInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0}, {0, 1}, {1}, {0, 2}, {1, 2}, {2}, {0, 1, 2}} {
		fs := crashfs.New()
		l, n, numbers := sealed(t, fs)
		var remove []uint32
		for _, i := range order {
			remove = append(remove, numbers[i])
		}
		require.NoError(t, l.Remove(context.Background(), remove...))
		require.NoError(t, l.Remove(context.Background()))
		infos := l.Segments()
		_, err := l.NewReader().Read(position(remove[0], segmentHeader))
		require.Error(t, err)
		require.NoError(t, l.Close())
		for range 2 { // from the record that lists them, and from a snapshot
			l, all := started(t, small(fs))
			require.Len(t, all, int(n), "%v", order)
			for i, s := range l.Segments() {
				require.Equal(t, infos[i].Number, s.Number)
				require.NotContains(t, remove, s.Number)
			}
			left := 0
			require.NoError(t, l.Replay(0, func(r Record) error { left++; return nil }))
			require.Less(t, left, int(n))
			require.Greater(t, left, int(n)/4)
			for i, s := range l.Segments() {
				if !s.Last && i < len(infos)-1 {
					require.Equal(t, infos[i], s, "%v", order)
				}
			}
			require.NoError(t, snapshotOf(l, l.End(), n))
			require.NoError(t, l.Close())
			require.Empty(t, checked(t, fs, testDir).Faults)
		}
		_, all, lost := repaired(t, fs, "")
		require.Zero(t, lost)
		require.Len(t, all, int(n))
	}
}

func TestWhatASnapshotNeedsIsNotRemoved(t *testing.T) {
	fs := crashfs.New()
	l, _ := started(t, small(fs))
	for n := range uint32(60) {
		appendNumber(l, n)
	}
	ctx := context.Background()
	require.ErrorContains(t, l.Remove(ctx, 1), "needed")
	require.NoError(t, snapshotOf(l, l.End(), 60))
	require.ErrorContains(t, l.Remove(ctx, 1), "needed") // if that one snapshot were bad
	require.NoError(t, snapshotOf(l, l.End(), 60))       // at the same position: still one
	require.ErrorContains(t, l.Remove(ctx, 1), "needed")
	appendNumber(l, 60)
	require.NoError(t, snapshotOf(l, l.End(), 61))
	require.ErrorContains(t, l.Remove(ctx, 1, l.KeepFrom().Segment()), "needed")
	require.NoError(t, l.Remove(ctx, 1))
	require.NoError(t, l.Close())
}

// A crash between the record that lists a segment and the removal of its file leaves the file. The next opening removes it.
func TestAFileThatWasToBeRemovedIsRemovedAtOpening(t *testing.T) {
	fs := crashfs.New()
	l, n, numbers := sealed(t, fs)
	fs.SetHook(func(op crashfs.Op) error {
		if op.Kind == crashfs.Remove {
			return errDisk
		}
		return nil
	})
	require.ErrorIs(t, l.Remove(context.Background(), numbers[1]), errDisk)
	require.NoError(t, l.Close())
	fs.SetHook(nil)
	report, err := Check(context.Background(), testDir, Survey{FS: fs, Record: func(r Record) error {
		require.NotEqual(t, numbers[1], r.Pos.Segment(), "what the opening will remove is not read")
		return nil
	}})
	require.NoError(t, err)
	require.Empty(t, report.Faults)
	_, saved, lost := repaired(t, fs, "")
	require.Zero(t, lost)
	require.Len(t, saved, int(n))
	l, all := started(t, small(fs))
	require.Len(t, all, int(n))
	for _, s := range l.Segments() {
		require.NotEqual(t, numbers[1], s.Number)
	}
	_, err = fs.Open(filepath.Join(testDir, segmentName(numbers[1])))
	require.Error(t, err)
	require.NoError(t, l.Close())
}

// If the newest snapshot is damaged, the one before it is read, with a warning and the records since.
func TestADamagedSnapshotIsLeftOut(t *testing.T) {
	fs := crashfs.New()
	l, n, numbers := sealed(t, fs)
	require.NoError(t, l.Remove(context.Background(), numbers...))
	newest := (*l.snapshots.list.Load())[0].name()
	require.NoError(t, l.Close())
	fs.Edit(filepath.Join(testDir, newest), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	logger, text := logged()
	o := small(fs)
	o.Logger = logger
	l, all := started(t, o)
	require.Len(t, all, int(n))
	require.Contains(t, text.String(), newest)
	require.Equal(t, Pos(0), l.KeepFrom(), "one snapshot is no reason to remove anything")
	require.NoError(t, snapshotOf(l, l.End(), n))
	require.NotZero(t, l.KeepFrom())
	_, err := fs.Open(filepath.Join(testDir, newest))
	require.Error(t, err, "the damaged file is removed")
	require.NoError(t, l.Close())
}

func TestASnapshotThatFailsLeavesTheOthers(t *testing.T) {
	fs := crashfs.New()
	l, n, _ := sealed(t, fs)
	keep := l.KeepFrom()
	appendNumber(l, n)
	err := l.WriteSnapshot(context.Background(), l.End(), func(w io.Writer) error {
		_, err := io.WriteString(w, "half of it")
		require.NoError(t, err)
		return errDisk
	})
	require.ErrorIs(t, err, errDisk)
	require.Equal(t, keep, l.KeepFrom())
	files, err := fs.List(testDir)
	require.NoError(t, err)
	for _, f := range files {
		require.NotContains(t, f.Name, snapshotNew)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.snapshots.writing <- struct{}{}
	cancel()
	require.ErrorIs(t, l.WriteSnapshot(ctx, l.End(), nil), context.Canceled)
	<-l.snapshots.writing
	require.NoError(t, l.Close())
}

// A snapshot may be larger than its blocks, and may be empty.
func TestSnapshotsOfAnySize(t *testing.T) {
	for _, size := range []int{0, 1, snapshotBlock - 1, snapshotBlock, snapshotBlock + 1, 5*snapshotBlock + 7} {
		fs := crashfs.New()
		l, _ := started(t, small(fs))
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(i * 7)
		}
		require.NoError(t, l.WriteSnapshot(context.Background(), l.End(), func(w io.Writer) error {
			for b := want; len(b) > 0; b = b[min(len(b), 70_001):] {
				if _, err := w.Write(b[:min(len(b), 70_001)]); err != nil {
					return err
				}
			}
			return nil
		}))
		end := l.End()
		require.NoError(t, l.Close())
		l, err := Open(testDir, small(fs))
		require.NoError(t, err)
		from, err := l.ReadSnapshot(func(r io.Reader) error {
			have, err := io.ReadAll(r)
			require.Equal(t, want, have, fmt.Sprint(size))
			return err
		})
		require.NoError(t, err)
		require.Equal(t, end, from)
		_, err = l.ReadSnapshot(func(io.Reader) error { return store.ErrDamaged })
		require.ErrorIs(t, err, store.ErrDamaged)
		require.NoError(t, l.Close())
	}
}

// The next segment was removed, so that no header says where the segment that is cut off has ended.
func TestACutInASegmentBeforeARemovedOneIsDamage(t *testing.T) {
	fs := crashfs.New()
	l, _, numbers := sealed(t, fs)
	var last Pos // of the segment that will be cut
	_, err := l.NewReader().Run(position(numbers[0], segmentHeader), 1<<20, func(rec Record) bool { last = rec.Pos; return true })
	require.NoError(t, err)
	require.Equal(t, numbers[0], last.Segment())
	require.NoError(t, l.Remove(t.Context(), numbers[1]))
	require.NoError(t, snapshotOf(l, l.End(), 0))
	require.NoError(t, l.Close())
	fs.Edit(filepath.Join(testDir, segmentName(numbers[0])), func(b []byte) []byte { return b[:last.Offset()-1] })
	l, err = Open(testDir, small(fs))
	require.NoError(t, err)
	from, err := l.ReadSnapshot(func(io.Reader) error { return nil })
	require.NoError(t, err)
	require.NoError(t, l.Replay(from, func(Record) error { return nil }))
	_, err = l.NewReader().Read(last)
	var damage *store.DamagedError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, []any{segmentName(numbers[0]), last.Offset()}, []any{damage.File, damage.Offset})
	require.NoError(t, l.Close())
}
