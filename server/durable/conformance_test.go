package durable

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/internal/storetest"
)

// testOptions are options for many small stores.
var testOptions = Options{Sync: SyncEvery(time.Hour), MinFree: -1, SegmentBytes: 256 << 10}

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	st, err := Open(dir, o)
	require.NoError(t, err)
	return st
}

// restless are options with which a store makes a snapshot and cleans all the time, and keeps hardly any met messages.
func restless() Options {
	return Options{
		FS: crashfs.New(), Sync: SyncEvery(time.Minute), MinFree: -1, SegmentBytes: 4 << 10, SnapshotBytes: 2 << 10,
		CleanSlack: 1, maxMet: 3,
	}
}

// TestTheDurableStoreConforms runs what every store promises: in real files, and with snapshots and cleaning all the time.
func TestTheDurableStoreConforms(t *testing.T) {
	t.Run("files", func(t *testing.T) {
		storetest.Run(t, storetest.Config{
			Open: func(t testing.TB) store.Store { return open(t, t.TempDir(), testOptions) },
			Reopen: func(t testing.TB, st store.Store) store.Store {
				require.NoError(t, st.Close())
				return open(t, st.(*Store).dir, testOptions)
			},
			Seeds: 1,
		})
	})
	t.Run("restless", func(t *testing.T) {
		storetest.Run(t, storetest.Config{
			Open: func(t testing.TB) store.Store { return open(t, "dir", restless()) },
			Reopen: func(t testing.TB, st store.Store) store.Store {
				kill(t, st.(*Store))
				return open(t, "dir", st.(*Store).options)
			},
		})
	})
}
