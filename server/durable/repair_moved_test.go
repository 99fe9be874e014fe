package durable

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// TestARepairListsWhatCleaningHadMoved damages segments of a stream with one message per key whose first segments were cleaned.
func TestARepairListsWhatCleaningHadMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &repairing{fs: crashfs.New(), all: map[string]map[int64]string{}}
		r.o = Options{FS: r.fs, MinFree: -1, SegmentBytes: 16 << 10, SnapshotBytes: 64 << 10, CleanSlack: 16 << 10}
		st := open(t, "dir", r.o)
		s, err := st.CreateStream(t.Context(), store.StreamOptions{Name: "s", OneMessagePerKey: true})
		require.NoError(t, err)
		send := func(key string, n int) {
			_, err := s.Send(t.Context(), store.Once{}, []store.Message{{Key: key, Data: fmt.Sprint(n, strings.Repeat("x", 300))}})
			require.NoError(t, err)
		}
		for i := range 1010 {
			send(fmt.Sprint("replaced-", i%10), i)
			if i%10 == 0 {
				send(fmt.Sprint("kept-", i), i)
				synctest.Wait()
			}
		}
		for i := range 500 { // so that snapshots are taken, and what was moved is in one place
			send(fmt.Sprint("new-", i), i)
		}
		synctest.Wait()
		r.all["s"] = listed(t, s)
		require.NoError(t, st.Close())
		files, err := r.fs.List("dir")
		require.NoError(t, err)
		require.NotEqual(t, "00000001.seg", files[0].Name)
		for _, file := range files[:6] { // in which most is what was moved
			fs := r.fs.Crash(1, rand.New(rand.NewPCG(1, 2)))
			fs.Edit("dir/"+file.Name, func(b []byte) []byte { clear(b[len(b)/2-1024 : len(b)/2+1024]); return b })
			report, err := repair(t.Context(), "dir", "new", fs)
			require.NoError(t, err)
			r.o.FS = fs
			st := open(t, "new", r.o)
			r.requireSaved(t, st, report.Streams[0], file.Name)
			require.NoError(t, st.Close())
		}
	})
}
