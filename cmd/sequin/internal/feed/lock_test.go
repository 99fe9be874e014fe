//go:build unix

package feed

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestALockHoldsUntilUnlock(t *testing.T) {
	c, err := New(t.TempDir(), Source{File: "/in"}, 1)
	require.NoError(t, err)
	unlock, err := c.Lock()
	require.NoError(t, err)
	_, err = c.Lock()
	require.ErrorIs(t, err, ErrLocked)
	unlock()
	unlock, err = c.Lock()
	require.NoError(t, err)
	unlock()
}

// A process that was killed leaves the file of its lock.
func TestAFileOfALockThatNobodyHoldsIsNoLock(t *testing.T) {
	c, err := New(t.TempDir(), Source{File: "/in"}, 1)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(strings.TrimSuffix(c.path, "json")+"lock", []byte("12345"), 0o600))
	unlock, err := c.Lock()
	require.NoError(t, err)
	unlock()
}

// The file of the lock is removed by its owner, while others open and lock it.
func TestNoTwoHaveTheLock(t *testing.T) {
	c, err := New(t.TempDir(), Source{File: "/in"}, 1)
	require.NoError(t, err)
	var owners atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 2000 {
				unlock, err := c.Lock()
				if err != nil {
					continue
				}
				if owners.Add(1) > 1 {
					t.Error("two have the lock")
				}
				_, _ = os.Stat(c.path) // gives the others time
				owners.Add(-1)
				unlock()
			}
		})
	}
	all.Wait()
}
