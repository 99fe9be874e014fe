//go:build unix

package vfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// A lock ends with its process, however that ends, and names it.
func TestALockNamesItsProcessAndEndsWithIt(t *testing.T) {
	if name := os.Getenv("SEQUIN_TEST_LOCK"); name != "" {
		_, err := OS.Lock(name)
		require.NoError(t, err)
		_, _ = os.Stdout.WriteString("locked\n")
		select {}
	}
	name := filepath.Join(t.TempDir(), "lock")
	child := exec.Command(os.Args[0], "-test.run=^TestALockNamesItsProcessAndEndsWithIt$")
	child.Env = append(os.Environ(), "SEQUIN_TEST_LOCK="+name)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	_, err = out.Read(make([]byte, 6))
	require.NoError(t, err)
	_, err = OS.Lock(name)
	host, _ := os.Hostname()
	require.Equal(t, &store.LockedError{PID: child.Process.Pid, Host: host}, err)
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	lock, err := OS.Lock(name)
	require.NoError(t, err)
	require.NoError(t, lock.Close())
}

func TestSystemErrorsAreToldApart(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		require.True(t, IsFull(err))
	}
	require.True(t, IsReadOnly(syscall.EROFS))
	require.True(t, IsReadOnly(syscall.EPERM))
	require.False(t, IsFull(syscall.EROFS))
}
