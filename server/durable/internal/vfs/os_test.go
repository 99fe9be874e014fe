package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

func TestFilesAreWrittenReadAndListed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	require.NoError(t, OS.MkdirAll(dir))
	require.NoError(t, OS.MkdirAll(filepath.Join(dir, "below"))) // List leaves it out
	name := filepath.Join(dir, "file")
	f, err := OS.Create(name)
	require.NoError(t, err)
	require.NoError(t, f.Allocate(10_000))
	require.NoError(t, f.Allocate(5000))
	size, err := f.Size()
	require.NoError(t, err)
	require.EqualValues(t, 10_000, size)
	_, err = f.WriteAt([]byte("text"), 9998)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	require.NoError(t, OS.SyncDir(dir))

	require.NoError(t, OS.Link(name, filepath.Join(dir, "another")))
	require.NoError(t, OS.Rename(name, filepath.Join(dir, "renamed")))
	files, err := OS.List(dir)
	require.NoError(t, err)
	require.Equal(t, []Info{{"another", 10_002}, {"renamed", 10_002}}, files)
	f, err = OS.OpenWrite(filepath.Join(dir, "renamed"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(10_001))
	b := make([]byte, 10_001)
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	require.Equal(t, append(make([]byte, 9998), "tex"...), b)
	require.NoError(t, f.Close())
	require.NoError(t, OS.Remove(filepath.Join(dir, "renamed")))
	_, err = OS.Open(filepath.Join(dir, "renamed"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	info, err := os.Stat(filepath.Join(dir, "another"))
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o077)

	free, total, err := OS.Space(dir)
	require.NoError(t, err)
	require.Positive(t, free)
	require.LessOrEqual(t, free, total)
}

// Where the system cannot reserve room, zeros are written.
func TestAFileIsExtendedWithZeros(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteString("text")
	require.NoError(t, err)
	require.NoError(t, extend(f, 3<<20+5))
	require.NoError(t, extend(f, 1))
	b, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	require.True(t, bytes.Equal(append([]byte("text"), make([]byte, 3<<20+1)...), b))
}

func TestALockIsHeldByOne(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	lock, err := OS.Lock(name)
	require.NoError(t, err)
	_, err = OS.Lock(name)
	require.ErrorIs(t, err, store.ErrLocked)
	require.NoError(t, lock.Close())
	lock, err = OS.Lock(name)
	require.NoError(t, err)
	require.NoError(t, lock.Close())
	_, err = OS.Lock(filepath.Join(name, "below a file"))
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrLocked)
}

func TestErrorsAreToldApart(t *testing.T) {
	wrapped := func(err error) error { return fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "f", Err: err}) }
	require.True(t, IsFull(wrapped(syscall.ENOSPC)) || syscall.ENOSPC >= 1<<29) // Windows invents that number
	require.True(t, IsFull(wrapped(ErrNoSpace)))
	require.False(t, IsFull(wrapped(syscall.EIO)))
	require.True(t, IsReadOnly(wrapped(syscall.EACCES)))
	require.True(t, IsReadOnly(wrapped(fs.ErrPermission)))
	require.False(t, IsReadOnly(errors.New("other")))
}
