package durable

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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

// TestTheDurableStoreConforms runs what every store promises.
func TestTheDurableStoreConforms(t *testing.T) {
	storetest.Run(t, storetest.Config{
		Open: func(t testing.TB) store.Store { return open(t, t.TempDir(), testOptions) },
		Reopen: func(t testing.TB, st store.Store) store.Store {
			require.NoError(t, st.Close())
			return open(t, st.(*Store).dir, testOptions)
		},
		Seeds: 4,
	})
}
