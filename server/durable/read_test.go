package durable

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// TestARunThatEndsWithinARecordDoesNotSayWhereItGoesOn reads the first half of a batch, and then all of it: what follows the
// record is no place to read the second half from.
func TestARunThatEndsWithinARecordDoesNotSayWhereItGoesOn(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a", "b", "c", "d"))
		s := f.stream.(*streamHandle).stream()
		for _, tt := range []struct {
			before int64
			known  bool
		}{{3, false}, {5, true}} {
			r := run{from: 1, before: tt.before, pos: s.appended.entries[0].pos, bytes: smallRun}
			next, pos, err := s.read(r, func(*rawMessage) bool { return true })
			require.NoError(f, err)
			require.Equal(f, tt.before, next)
			require.Equal(f, tt.known, pos > r.pos, "%v", pos)
		}
	})
}

// TestACopyOfWhatLivesElsewhereIsNotUsed applies copies of a message of which another copy was made since.
func TestACopyOfWhatLivesElsewhereIsNotUsed(t *testing.T) {
	at := func(segment int) seglog.Pos { return seglog.Pos(segment) << 32 }
	k := newKeyedLog(&Store{})
	sent := keySums{key: hashOf("a"), size: 10}
	k.add(&sendRecord{first: 1, count: 1, sums: []keySums{sent}}, at(2))
	k.move(1, at(1), at(3))
	require.EqualValues(t, at(2), k.index.At(1).Pos)
	k.move(2, at(2), at(3))
	k.move(1, at(2), at(3))
	require.EqualValues(t, at(3), k.index.At(1).Pos)
	require.Len(t, k.live, 1)
	require.Positive(t, k.live[3])
}

// counted counts the files that are open for reading.
type counted struct {
	vfs.FS
	files atomic.Int32
}

func (c *counted) Open(name string) (vfs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	c.files.Add(1)
	return countedFile{f, &c.files}, nil
}

type countedFile struct {
	vfs.File
	files *atomic.Int32
}

func (f countedFile) Close() error { f.files.Add(-1); return f.File.Close() }

func TestAReadOfManySegmentsKeepsFewOpen(t *testing.T) {
	inBubble(t, Options{SegmentBytes: 4 << 10}, store.StreamOptions{}, func(f *fixture) {
		for i := range 600 {
			require.NoError(f, f.send(fmt.Sprint(i)))
		}
		require.Greater(f, f.st.Info().Segments, 8)
		require.NoError(f, f.st.Close())
		files := &counted{FS: f.fs}
		f.o.FS, f.o.OpenSegments = files, 3
		f.st = open(f, "dir", f.o)
		f.find()
		before := files.files.Load()
		require.Len(f, f.list(), 600)
		require.EqualValues(f, 3, files.files.Load()-before)
	})
}
