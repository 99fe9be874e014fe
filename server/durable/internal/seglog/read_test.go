package seglog

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// runs reads the whole log in runs, and returns the numbers of the records and how many runs had some.
func runs(t *testing.T, l *Log, maxBytes int) (all []uint32, n int) {
	r := l.NewReader()
	for pos := Pos(0); ; {
		had := len(all)
		next, err := r.Run(pos, maxBytes, func(rec Record) bool {
			require.Less(t, len(rec.Body)-4, 300)
			require.Equal(t, numbered(binary.LittleEndian.Uint32(rec.Body)), rec.Body)
			all = append(all, binary.LittleEndian.Uint32(rec.Body))
			return true
		})
		require.NoError(t, err)
		if next == pos {
			return all, n
		}
		if len(all) > had {
			n++
		}
		pos = next
	}
}

// Records are read from the files, and from the queue while they are not written.
func TestRunsReadRecordsInOrderWrittenOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		l, _ := started(t, small(fs))
		g := newGate(fs)
		for n := range uint32(100) {
			appendNumber(l, n)
		}
		require.NoError(t, l.Sync(t.Context()))
		g.hold(crashfs.Write)
		for n := range uint32(100) {
			appendNumber(l, 100+n)
			if n == 20 {
				synctest.Wait() // the writer has a part of them
			}
		}
		require.Greater(t, l.End().Segment(), l.Written().Segment()+2)
		for _, maxBytes := range []int{1, 1000, 64 << 10} {
			all, n := runs(t, l, maxBytes)
			require.Len(t, all, 200)
			for i, have := range all {
				require.EqualValues(t, i, have)
			}
			if maxBytes == 1 {
				require.Equal(t, 200, n, "a run of one byte is one record")
			} else {
				require.Less(t, n, 100)
			}
		}
		g.release()
		require.NoError(t, l.Close())
	})
}

func TestARunEndsWhereTheFunctionSaysSo(t *testing.T) {
	l, _ := started(t, Options{FS: crashfs.New(), MinFree: -1, SegmentBytes: 1 << 20})
	var pos []Pos
	for n := range uint32(10) {
		pos = append(pos, appendNumber(l, n))
	}
	seen := 0
	next, err := l.NewReader().Run(pos[2], 1<<20, func(r Record) bool {
		require.Equal(t, pos[2+seen], r.Pos)
		require.Equal(t, pos[3+seen], r.End)
		require.Equal(t, l.Opening(), r.Opening)
		seen++
		return seen < 3
	})
	require.NoError(t, err)
	require.Equal(t, 3, seen)
	require.Equal(t, pos[5], next)
	require.NoError(t, l.Close())
}

// A record may be larger than a run, than what is read ahead, and than a segment.
func TestLargeRecords(t *testing.T) {
	fs := crashfs.New()
	l, _ := started(t, small(fs))
	sizes := []int{10, readAhead, 3 * readAhead, 0, smallestSize - recordHeader - sealSize - segmentHeader, 200_000, 10}
	var pos []Pos
	for i, size := range sizes {
		pos = append(pos, l.Append(byte(i), 1, make([]byte, size)))
	}
	require.NoError(t, l.Sync(context.Background()))
	require.NoError(t, l.Close())
	l, err := Open(testDir, small(fs))
	require.NoError(t, err)
	n := 0
	require.NoError(t, l.Replay(0, func(r Record) error {
		require.Equal(t, pos[n], r.Pos)
		require.Len(t, r.Body, sizes[n])
		n++
		return nil
	}))
	require.Len(t, sizes, n)
	r := l.NewReader()
	for i, p := range pos {
		rec, err := r.Read(p)
		require.NoError(t, err)
		require.Len(t, rec.Body, sizes[i])
		require.EqualValues(t, i, rec.Kind)
	}
	require.NoError(t, l.Close())
	require.Panics(t, func() { l.Append(MaxKind+1, 1, nil) })
	require.Empty(t, checked(t, fs, testDir).Faults)
}

func TestAReadOfWhatIsNoRecordFails(t *testing.T) {
	f := fill(t, false)
	l, _ := started(t, small(f.fs))
	r := l.NewReader()
	_, err := r.Read(f.pos[3] + 1)
	require.ErrorIs(t, err, store.ErrDamaged)
	_, err = r.Read(position(1, 1<<20))
	require.ErrorContains(t, err, "no record")
	_, err = r.Read(position(99, 64))
	require.Error(t, err)
	_, err = r.Read(l.End())
	require.ErrorContains(t, err, "no record")
	// A bad record fails the reads of itself, not those of others.
	f.fs.Edit(filepath.Join(testDir, segmentName(1)), func(b []byte) []byte { b[f.pos[3].Offset()+recordHeader]++; return b })
	_, err = r.Read(f.pos[3])
	var damage *store.DamagedError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, store.DamagedError{File: segmentName(1), Offset: f.pos[3].Offset(), Position: uint64(f.pos[3])}, *damage)
	n := 0
	next, err := r.Run(0, 1<<20, func(Record) bool { n++; return true })
	require.ErrorAs(t, err, &damage)
	require.Equal(t, 3, n)
	require.Equal(t, f.pos[3], next)
	_, err = r.Read(f.pos[4])
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// appendAndRead appends records until 60 are stored, reads each, and returns their positions. It holds mu while it appends.
func appendAndRead(t *testing.T, l *Log, mu *sync.Mutex) (stored []Pos) {
	ctx, r := context.Background(), l.NewReader()
	for n := uint32(0); len(stored) < 60; n++ {
		_ = l.WaitRoom(ctx)
		mu.Lock()
		pos := appendNumber(l, n)
		mu.Unlock()
		if l.Wait(ctx, pos) != nil {
			continue
		}
		rec, err := r.Read(pos)
		require.NoError(t, err)
		require.Equal(t, numbered(n), rec.Body)
		stored = append(stored, pos)
	}
	return stored
}

// Many goroutines append, wait and read while writes fail and the log is recovered.
func TestConcurrentUseWithFailures(t *testing.T) {
	fs := crashfs.New()
	l, _ := started(t, small(fs))
	var mu sync.Mutex // as a store has it: nobody appends while the state is read again
	var users sync.WaitGroup
	stored, ended := make([][]Pos, 8), make(chan struct{})
	for u := range stored {
		users.Go(func() { stored[u] = appendAndRead(t, l, &mu) })
	}
	go func() {
		users.Wait()
		close(ended)
	}()
	failing := seeded(1)
	fs.SetHook(func(op crashfs.Op) error {
		if op.Kind == crashfs.Write && failing.IntN(20) == 0 && op.Size > recordHeader+segmentHeader {
			return &crashfs.Short{N: 50, Err: errDisk}
		}
		return nil
	})
	for open := true; open; {
		select {
		case <-l.Failed():
			mu.Lock()
			require.NoError(t, l.Recover())
			_, err := l.ReadSnapshot(nil)
			require.NoError(t, err)
			require.NoError(t, l.Replay(0, func(Record) error { return nil }))
			require.NoError(t, l.Start())
			mu.Unlock()
		case <-ended:
			open = false
		}
	}
	fs.SetHook(nil)
	if l.Err() != nil {
		require.NoError(t, l.Recover())
		require.NoError(t, l.Start())
	}
	require.NoError(t, l.Close())
	requireStored(t, fs, stored, 8*60)
}

// requireStored checks that a log has exactly the records at these positions, total of them.
func requireStored(t *testing.T, fs *crashfs.FS, stored [][]Pos, total int) {
	t.Helper()
	l, err := Open(testDir, small(fs))
	require.NoError(t, err)
	have, n := map[Pos]bool{}, 0
	require.NoError(t, l.Replay(0, func(r Record) error { have[r.Pos] = true; return nil }))
	for _, positions := range stored {
		for _, pos := range positions {
			require.True(t, have[pos], pos.String())
			n++
		}
	}
	require.Len(t, have, n)
	require.Equal(t, total, n)
	require.NoError(t, l.Close())
}

// A log has any number of segments, of which some are open for reading.
func TestReadsOpenASegmentsFileAgain(t *testing.T) {
	for set, most := range map[int]int{0: defaultOpenSegments, 5: 5} {
		o := small(crashfs.New())
		o.OpenSegments = set
		l, _ := started(t, o)
		var pos []Pos
		for n := range uint32(3 * most) {
			pos = append(pos, appendNumber(l, n))
			l.Append(0, 0, make([]byte, smallestSize)) // a segment for itself
		}
		require.NoError(t, l.Sync(context.Background()))
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				r := l.NewReader()
				for range 2 {
					for n, p := range pos {
						rec, err := r.Read(p)
						require.NoError(t, err)
						require.Equal(t, numbered(uint32(n)), rec.Body)
					}
				}
			})
		}
		readers.Wait()
		require.Len(t, l.segments.open, most)
		require.NoError(t, l.Close())
	}
}
