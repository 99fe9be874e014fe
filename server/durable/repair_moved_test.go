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

// TestTheMiddleOfABatchMayLiveInItsCopyAlone cleans a segment with a batch that is copied in three records, loses the first and the
// last of them, and cleans the segment of the batch again after the repair. A message before the batch is lost, too, so that the
// batch is divided at other messages then.
func TestTheMiddleOfABatchMayLiveInItsCopyAlone(t *testing.T) {
	for name, so := range map[string]store.StreamOptions{"appending": {}, "one message per key": {OneMessagePerKey: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{SegmentBytes: 1 << 20, CleanSlack: 1 << 40}, so, func(f *fixture) {
				const n = 50
				first := incompressible(n, 100<<10)
				f.sendData(f.stream, "first", first)
				var batch []store.Message
				for i := range n {
					batch = append(batch, store.Message{Key: fmt.Sprint(i), Data: incompressible(uint64(i), 14<<10)})
				}
				_, err := f.stream.Send(f.Context(), store.Once{}, batch)
				require.NoError(f, err)
				want := listed(t, f.stream)
				other, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "other"})
				require.NoError(f, err)
				for len(f.st.log.Segments()) == 1 {
					f.sendData(other, "key", strings.Repeat("y", 100<<10))
				}
				moveFirst := func() { require.NoError(f, f.st.keeper.move(f.Context(), f.st.log.Segments()[0])) }
				moveFirst()
				require.NoError(f, f.st.Close())
				damage(f, f.fs, first[:100])                 // itself, and with the first copy
				damageIn(f, "00000002.seg", batch[n-1].Data) // the last copy
				report, err := repair(f.Context(), "dir", "new", f.fs)
				require.NoError(f, err)
				require.Len(f, report.Faults, 3)
				require.Equal(f, []SeqRange{{1, 1}}, report.Streams[0].Lost)
				delete(want, 1)
				f.st = open(f, "new", f.o)
				f.find()
				require.Equal(f, want, listed(t, f.stream))
				for range 2 {
					moveFirst()
					require.Equal(f, want, listed(t, f.stream))
				}
				kill(f, f.st)
				f.st = open(f, "new", f.o)
				f.find()
				require.Equal(f, want, listed(t, f.stream))
			})
		})
	}
}

// damageIn changes a byte of the text in a segment.
func damageIn(f *fixture, segment, text string) {
	f.fs.Edit("dir/"+segment, func(b []byte) []byte {
		at := strings.Index(string(b), text)
		require.Positive(f, at)
		b[at]++
		return b
	})
}

// incompressible returns text that is the same for the same seed.
func incompressible(seed uint64, size int) string {
	b := make([]byte, size)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte('!' + random.IntN(90))
	}
	return string(b)
}
