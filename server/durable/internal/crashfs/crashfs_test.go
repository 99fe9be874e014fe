package crashfs

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
)

// text returns the contents of a file, or "none".
func text(t *testing.T, fs *FS, name string) string {
	f, err := fs.Open(name)
	if err != nil {
		return "none"
	}
	size, err := f.Size()
	require.NoError(t, err)
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	require.NoError(t, err)
	return string(b)
}

func write(t *testing.T, f vfs.File, text string) {
	_, err := f.WriteAt([]byte(text), 0)
	require.NoError(t, err)
}

func TestACrashKeepsWhatWasSynced(t *testing.T) {
	fs, random := New(), rand.New(rand.NewPCG(1, 2))
	f, err := fs.Create("d/a")
	require.NoError(t, err)
	write(t, f, "one")
	require.Equal(t, "none", text(t, fs.Crash(0, random), "d/a"))
	require.Equal(t, "one", text(t, fs.Crash(1, random), "d/a"))
	require.NoError(t, f.Sync())
	require.Equal(t, "none", text(t, fs.Crash(0, random), "d/a"), "the name is not synced")
	require.NoError(t, fs.SyncDir("d"))
	write(t, f, "two and more")
	require.Equal(t, "one", text(t, fs.Crash(0, random), "d/a"))
	require.Equal(t, "two and more", text(t, fs.Crash(1, random), "d/a"))
	require.NoError(t, f.Sync())
	require.NoError(t, fs.Rename("d/a", "d/b"))
	crashed := fs.Crash(0, random)
	require.Equal(t, "two and more", text(t, crashed, "d/a"))
	require.Equal(t, "none", text(t, crashed, "d/b"))
	require.NoError(t, fs.SyncDir("d"))
	require.Equal(t, "two and more", text(t, fs.Crash(0, random), "d/b"))
	require.NoError(t, fs.Link("d/b", "d/c"))
	require.Error(t, fs.Link("d/b", "d/c"))
	require.NoError(t, fs.Remove("d/b"))
	require.NoError(t, fs.SyncDir("d"))
	crashed = fs.Crash(0, random)
	require.Equal(t, "none", text(t, crashed, "d/b"))
	require.Equal(t, "two and more", text(t, crashed, "d/c"))
}

// Sectors reach the disk in any order.
func TestACrashKeepsSomeSectors(t *testing.T) {
	fs, random := New(), rand.New(rand.NewPCG(1, 2))
	f, err := fs.Create("d/a")
	require.NoError(t, err)
	require.NoError(t, f.Allocate(8*sector))
	require.NoError(t, f.Sync())
	require.NoError(t, fs.SyncDir("d"))
	full := make([]byte, 8*sector)
	for i := range full {
		full[i] = 'x'
	}
	write(t, f, string(full))
	seen := map[string]bool{}
	for range 100 {
		b, pattern := text(t, fs.Crash(0.5, random), "d/a"), ""
		for s := range 8 {
			first := b[s*sector]
			for _, c := range []byte(b[s*sector : (s+1)*sector]) {
				require.Equal(t, first, c, "a sector is whole or not there")
			}
			pattern += string(rune(first))
		}
		seen[pattern] = true
	}
	require.Greater(t, len(seen), 50)
}

func TestHooksAndCapacityLetChangesFail(t *testing.T) {
	fs, broken := New(), errors.New("broken")
	fs.SetCapacity(10)
	f, err := fs.Create("d/a")
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 11), 0)
	require.True(t, vfs.IsFull(err))
	require.True(t, vfs.IsFull(f.Allocate(11)))
	write(t, f, "12345")
	free, total, err := fs.Space("d")
	require.NoError(t, err)
	require.EqualValues(t, []int64{5, 10}, []int64{free, total})
	fs.SetHook(func(op Op) error {
		if op.Kind == Write {
			return &Short{N: 2, Err: broken}
		}
		return broken
	})
	n, err := f.WriteAt([]byte("abc"), 0)
	require.Equal(t, 2, n)
	require.ErrorIs(t, err, broken)
	for _, err := range []error{f.Sync(), f.Truncate(0), f.Allocate(6), fs.SyncDir("d"), fs.Remove("d/a"), fs.Rename("d/a", "d/b")} {
		require.ErrorIs(t, err, broken)
	}
	require.Equal(t, "ab345", text(t, fs, "d/a"))
}
