package seglog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

const repairedDir = "repaired"

func checked(t *testing.T, fs *crashfs.FS, dir string) Report {
	t.Helper()
	report, err := Check(context.Background(), dir, Survey{FS: fs})
	require.NoError(t, err)
	return report
}

// repaired repairs the log, and returns the report, the numbers that the repaired log has, and how many gaps it has.
func repaired(t *testing.T, fs *crashfs.FS, what string) (report Report, all map[uint32]bool, lost int) {
	t.Helper()
	report, err := Repair(context.Background(), testDir, repairedDir, Survey{FS: fs})
	require.NoError(t, err, what)
	l, err := Open(repairedDir, small(fs))
	require.NoError(t, err, what)
	all = map[uint32]bool{}
	from, err := l.ReadSnapshot(func(r io.Reader) error {
		b, err := io.ReadAll(r)
		for ; len(b) > 0; b = b[4:] {
			all[binary.LittleEndian.Uint32(b)] = true
		}
		return err
	})
	require.NoError(t, err, what)
	read := func(r Record) error {
		if r.Kind != KindLost {
			all[binary.LittleEndian.Uint32(r.Body)] = true
		}
		return nil
	}
	require.NoError(t, l.Replay(from, read), what)
	require.NoError(t, l.Start())
	require.NoError(t, l.Wait(context.Background(), appendNumber(l, 1<<20)), what)
	require.NoError(t, l.Close())
	after := checked(t, fs, repairedDir)
	require.Empty(t, after.Faults, what)
	return report, all, after.Lost
}

func TestCheckOfAGoodLogFindsNothingAndChangesNothing(t *testing.T) {
	for _, removal := range []bool{false, true} {
		f := fill(t, removal)
		f.fs.SetHook(func(op crashfs.Op) error {
			require.Equal(t, crashfs.Lock, op.Kind)
			return nil
		})
		snapshots, records := 0, []Pos(nil)
		report, err := Check(context.Background(), testDir, Survey{
			FS:       f.fs,
			Snapshot: func(Pos, io.Reader) error { snapshots++; return nil },
			Record:   func(r Record) error { records = append(records, r.Pos); return nil },
		})
		require.NoError(t, err)
		require.Empty(t, report.Faults)
		require.Equal(t, 2, snapshots)
		require.Equal(t, f.pos[len(f.pos)-len(records):], records)
		require.EqualValues(t, len(records), report.Records)
		require.Equal(t, removal, len(records) < len(f.pos))
		require.Equal(t, 2, report.Snapshots)
		require.Len(t, report.Store, 32)
		require.Zero(t, report.Torn)
	}
}

func TestRepairLosesTheBadRecordsAlone(t *testing.T) {
	f, random := fill(t, false), seeded(5)
	for range 60 {
		bad := map[uint32]bool{}
		fs := f.fs.Crash(1, seeded(0))
		for range 1 + random.IntN(5) {
			n := random.IntN(len(f.pos))
			bad[uint32(n)] = true
			at := f.pos[n].Offset() + random.Int64N(int64(recordHeader+len(numbered(uint32(n)))))
			fs.Edit(filepath.Join(testDir, segmentName(f.pos[n].Segment())), func(b []byte) []byte { b[at] ^= 16; return b })
		}
		what := fmt.Sprint(bad)
		require.NotEmpty(t, checked(t, fs, testDir).Faults, what)
		report, all, lost := repaired(t, fs, what)
		require.NotEmpty(t, report.Faults)
		require.LessOrEqual(t, len(report.Faults), len(bad), what) // neighbours make one gap
		for n := range f.n {
			require.Equal(t, !bad[n] || n < 120, all[n], "record %d of %s", n, what) // the snapshot holds those below
		}
		require.Len(t, report.Faults, lost, what)
		for _, fault := range report.Faults {
			require.NotZero(t, fault.Size)
			require.Contains(t, f.pos, fault.Pos)
			require.Contains(t, fault.String(), fmt.Sprintf("%s at offset %d", fault.File, fault.Offset))
		}
	}
}

// Whatever happens to one file, repair keeps what the others hold.
func TestRepairOfAnyBadFile(t *testing.T) {
	edits := map[string]func(b []byte) []byte{
		"missing":    func([]byte) []byte { return nil },
		"bad header": func(b []byte) []byte { b[len(b)%20+3] ^= 1; return b },
		"bad begin":  func(b []byte) []byte { clear(b[:min(len(b), 2*segmentHeader)]); return b },
		"cut":        func(b []byte) []byte { return b[:len(b)/2] },
		"zeros":      func(b []byte) []byte { clear(b); return b },
		"empty":      func(b []byte) []byte { return b[:0] },
	}
	for _, removal := range []bool{false, true} {
		f := fill(t, removal)
		for name, size := range f.files(t) {
			for how, edit := range edits {
				if size == 0 || name == spareFile {
					continue
				}
				what := fmt.Sprintf("%s is %s, removal %v", name, how, removal)
				report, all, lost := repaired(t, f.edited(name, edit), what)
				// Nothing says that a snapshot existed, or that a segment was begun of which nothing is left, unless it said what was removed.
				untold := strings.HasPrefix(name, snapshotPrefix) && how == "missing" || how == "zeros" && !removal && name == segmentName(f.pos[f.n-1].Segment())
				require.NotEqual(t, untold, len(report.Faults) > 0, what)
				missing := 0
				for n, pos := range f.pos {
					if !all[uint32(n)] {
						require.Equal(t, name, segmentName(pos.Segment()), what)
						missing++
					}
				}
				if missing > 0 && !untold {
					require.NotZero(t, lost, what)
				}
			}
		}
	}
}

// Without a snapshot, a log of which segments were removed says that something is lost.
func TestRepairWithoutASnapshotTellsThatRecordsAreLost(t *testing.T) {
	f := fill(t, true)
	for name := range f.files(t) {
		if strings.HasPrefix(name, snapshotPrefix) {
			require.NoError(t, f.fs.Remove(filepath.Join(testDir, name)))
		}
	}
	_, err := Open(testDir, small(f.fs))
	require.NoError(t, err, "what is missing is found by Replay")
	f.fs = f.fs.Crash(1, seeded(0))
	_, all, lost := repaired(t, f.fs, "")
	require.Equal(t, 1, lost)
	require.Less(t, len(all), len(f.pos))
	require.Greater(t, len(all), 60)
}

func TestFaultsOfTheCallersRecordsAreReported(t *testing.T) {
	f := fill(t, false)
	report, err := Check(context.Background(), testDir, Survey{
		FS: f.fs,
		Snapshot: func(from Pos, r io.Reader) error {
			if from > f.pos[100] {
				return errors.New("the snapshot makes no sense")
			}
			return nil
		},
		Record: func(r Record) error {
			if r.Pos == f.pos[7] {
				return errors.New("the record makes no sense")
			}
			return nil
		},
	})
	require.NoError(t, err)
	require.Len(t, report.Faults, 2)
	require.Equal(t, "the snapshot makes no sense", report.Faults[0].Text)
	require.Equal(t, Fault{File: segmentName(1), Offset: f.pos[7].Offset(), Size: int64(recordHeader + len(numbered(7))), Pos: f.pos[7], Text: "the record makes no sense"}, report.Faults[1])
}

func TestATornEndIsNoFault(t *testing.T) {
	f := fill(t, false)
	last := f.pos[len(f.pos)-1]
	fs := f.edited(segmentName(last.Segment()), func(b []byte) []byte { return append(b[:len(b)-4], "torn"...) })
	report := checked(t, fs, testDir)
	require.Empty(t, report.Faults)
	require.NotZero(t, report.Torn)
}

func TestCheckAndRepairRefuse(t *testing.T) {
	ctx, f := context.Background(), fill(t, false)
	_, err := Check(ctx, "elsewhere", Survey{FS: f.fs})
	require.ErrorContains(t, err, "elsewhere holds no store")
	_, err = Repair(ctx, testDir, testDir, Survey{FS: f.fs})
	require.ErrorContains(t, err, "not empty")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = Check(cancelled, testDir, Survey{FS: f.fs})
	require.ErrorIs(t, err, context.Canceled)
	l, _ := started(t, small(f.fs))
	_, err = Check(ctx, testDir, Survey{FS: f.fs})
	require.ErrorIs(t, err, store.ErrLocked)
	require.NoError(t, l.Close())
}
