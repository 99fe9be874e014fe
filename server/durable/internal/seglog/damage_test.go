package seglog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// filled is a log of several segments with two snapshots, which was closed.
type filled struct {
	fs    *crashfs.FS
	n     uint32
	pos   []Pos // of the records, by number
	first uint32
}

// fill makes such a log. With removal the segments that no snapshot needs are gone.
func fill(t *testing.T, removal bool) *filled {
	f := &filled{fs: crashfs.New()}
	l, _ := started(t, small(f.fs))
	for _, until := range []uint32{60, 120, 180} {
		for ; f.n < until; f.n++ {
			f.pos = append(f.pos, appendNumber(l, f.n))
			if f.n%5 == 0 {
				require.NoError(t, l.Wait(context.Background(), f.pos[f.n]))
			}
		}
		if until < 180 {
			require.NoError(t, snapshotOf(l, l.End(), f.n))
		}
	}
	for _, s := range l.Segments() {
		if removal && s.Number < l.KeepFrom().Segment() {
			require.NoError(t, l.Remove(context.Background(), s.Number))
		}
	}
	f.first = l.Segments()[0].Number
	require.NoError(t, l.Close())
	return f
}

// files are the names of the log's files and their sizes.
func (f *filled) files(t *testing.T) map[string]int64 {
	all, err := f.fs.List(testDir)
	require.NoError(t, err)
	sizes := map[string]int64{}
	for _, file := range all {
		sizes[file.Name] = file.Size
	}
	return sizes
}

// edited is a copy of the log with one file changed. An edit that returns nil removes the file.
func (f *filled) edited(name string, edit func([]byte) []byte) *crashfs.FS {
	fs := f.fs.Crash(1, seeded(0))
	gone := false
	fs.Edit(filepath.Join(testDir, name), func(b []byte) []byte {
		b = edit(b)
		gone = b == nil
		return b
	})
	if gone {
		if err := fs.Remove(filepath.Join(testDir, name)); err != nil {
			panic(err)
		}
	}
	return fs
}

// check opens the copy and reads all records. It returns whether damage was told. Anything less than all records, without
// a word, fails the test.
func (f *filled) check(t *testing.T, fs *crashfs.FS, what string) (told bool) {
	l, err := Open(testDir, small(fs))
	if err != nil {
		f.requireTold(t, err, what)
		return true
	}
	defer l.Close()
	all, err := replayed(l)
	if err != nil {
		f.requireTold(t, err, what)
		return true
	}
	require.Len(t, all, int(f.n), what)
	r := l.NewReader()
	for n, pos := range f.pos {
		if pos.Segment() < f.first {
			continue
		}
		rec, err := r.Read(pos)
		if err != nil {
			f.requireTold(t, err, what)
			told = true
			continue
		}
		require.Equal(t, numbered(uint32(n)), rec.Body, what)
	}
	return told
}

func (f *filled) requireTold(t *testing.T, err error, what string) {
	require.True(t, errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrVersion), "%s: %v", what, err)
	if damage := (*store.DamagedError)(nil); errors.As(err, &damage) {
		require.NotEmpty(t, damage.File, what)
	}
}

func TestAFlippedBitIsToldOrHarmless(t *testing.T) {
	for _, removal := range []bool{false, true} {
		f, random, told := fill(t, removal), seeded(1), 0
		for name, size := range f.files(t) {
			if size == 0 || name == spareFile {
				continue
			}
			for range 1000 / 8 {
				at, bit := random.Int64N(size), byte(1)<<random.IntN(8)
				what := fmt.Sprintf("%s at %d, bit %d", name, at, bit)
				fs := f.edited(name, func(b []byte) []byte { b[at] ^= bit; return b })
				if f.check(t, fs, what) {
					told++
				}
			}
		}
		require.Greater(t, told, 300)
	}
}

// A flipped bit of a record's bytes is always told: none of them is without meaning.
func TestAFlippedBitOfARecordIsTold(t *testing.T) {
	f, random := fill(t, false), seeded(2)
	for n, pos := range f.pos {
		at := pos.Offset() + random.Int64N(recordHeader+int64(len(numbered(uint32(n)))))
		fs := f.edited(segmentName(pos.Segment()), func(b []byte) []byte { b[at] ^= 1 << random.IntN(8); return b })
		require.True(t, f.check(t, fs, pos.String()), "record %d", n)
	}
}

func TestAFileThatIsCutOrMissingIsToldOrNotNeeded(t *testing.T) {
	for _, removal := range []bool{false, true} {
		f, random := fill(t, removal), seeded(3)
		for name, size := range f.files(t) {
			segment := segmentNumber(name) != 0
			told := f.check(t, f.edited(name, func([]byte) []byte { return nil }), name+" is missing")
			require.False(t, segment && !told, "%s is missing", name)
			for range 200 / 8 {
				at := random.Int64N(size + 1)
				told := f.check(t, f.edited(name, func(b []byte) []byte { return b[:at] }), fmt.Sprintf("%s is cut at %d", name, at))
				require.False(t, segment && at <= segmentHeader && !told)
			}
		}
	}
}

func TestTheFilesOfAnotherPlaceOrStoreAreTold(t *testing.T) {
	f, other := fill(t, false), fill(t, false)
	for name := range f.files(t) {
		if segmentNumber(name) == 0 && !strings.HasPrefix(name, snapshotPrefix) && name != formatFile {
			continue
		}
		foreign := func(fs *crashfs.FS, from string) (b []byte) {
			fs.Edit(filepath.Join(testDir, from), func(have []byte) []byte { b = have; return have })
			return bytes.Clone(b)
		}
		b := foreign(other.fs, name)
		told := f.check(t, f.edited(name, func([]byte) []byte { return b }), name+" of another store")
		require.True(t, told || strings.HasPrefix(name, snapshotPrefix), "%s of another store", name)
		if n := segmentNumber(name); n > 1 {
			b = foreign(f.fs, segmentName(n-1))
			require.True(t, f.check(t, f.edited(name, func([]byte) []byte { return b }), name+" is another segment"))
		}
	}
}

// Blocks that were not synced reach the disk in any order. A good record behind a bad one is then no sign of damage, and
// is gone when the log has been opened.
func TestAGoodRecordBehindATornOneIsCutOff(t *testing.T) {
	fs := crashfs.New()
	l, _ := started(t, everySecond(small(fs)))
	var pos [3]Pos
	for n := range uint32(3) {
		pos[n] = appendNumber(l, n)
		require.NoError(t, l.WaitWritten(context.Background(), pos[n]))
	}
	after := fs.Crash(1, seeded(0))
	after.Edit(filepath.Join(testDir, segmentName(1)), func(b []byte) []byte {
		clear(b[pos[1].Offset():pos[2].Offset()])
		return b
	})
	require.NoError(t, l.Close())

	logger, text := logged()
	o := small(after)
	o.Logger = logger
	l, all := started(t, o)
	require.Equal(t, []uint32{0}, all)
	require.EqualValues(t, l.End()-pos[1]+Pos(recordHeader+len(numbered(2))+recordHeader+len(numbered(1))), l.Torn())
	require.Contains(t, text.String(), fmt.Sprintf("offset=%d bytes=%d", pos[1].Offset(), l.Torn()))
	require.NoError(t, l.Close())
	l, all = started(t, small(after))
	require.NoError(t, l.Close())
	require.Equal(t, []uint32{0}, all)
	require.Zero(t, l.Torn())
}

// The same bytes are damage once a later record, or a mark, says that they were synced.
func TestABadRecordBelowASyncedMarkIsDamage(t *testing.T) {
	for name, policy := range map[string]Policy{"a record": {}, "a mark": {Every: 1}} {
		fs := crashfs.New()
		o := small(fs)
		o.Policy = policy
		l, _ := started(t, o)
		var pos [2]Pos
		for n := range uint32(2) {
			pos[n] = appendNumber(l, n)
			require.NoError(t, l.WaitDurable(context.Background(), pos[n]))
		}
		if name == "a mark" {
			require.NoError(t, l.Close())
		}
		at := pos[len(pos)-2].Offset()
		after := fs.Crash(0, rand.New(rand.NewPCG(1, 1)))
		after.Edit(filepath.Join(testDir, segmentName(1)), func(b []byte) []byte { b[at+recordHeader] ^= 4; return b })
		_, err := Open(testDir, small(after))
		var damage *store.DamagedError
		require.ErrorAs(t, err, &damage, name)
		require.Equal(t, store.DamagedError{File: "00000001.seg", Offset: at, Position: uint64(pos[0])}, *damage)
		l.Close()
	}
}
