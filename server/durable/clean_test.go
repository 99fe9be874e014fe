package durable

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// tidying are options of a store that makes a snapshot and cleans after every 32 KiB.
var tidying = Options{SegmentBytes: 16 << 10, SnapshotBytes: 32 << 10, CleanSlack: 16 << 10}

// requireSmall checks that no more is on disk than what lives, what is left before cleaning, and what was written until a dead segment is below
// two snapshots.
func (f *fixture) requireSmall(living int64) {
	f.Helper()
	synctest.Wait()
	i := f.st.Info()
	most := 2*living + f.o.CleanSlack + 4*f.o.SnapshotBytes + 2*f.o.SegmentBytes
	require.LessOrEqual(f, i.DiskBytes, most, "%+v", i)
}

func (f *fixture) sendData(s store.Stream, key, data string) {
	f.Helper()
	_, err := s.Send(f.Context(), store.Once{}, []store.Message{{Key: key, Data: data}})
	require.NoError(f, err)
	time.Sleep(time.Millisecond)
}

func TestDroppedMessagesLeaveTheDisk(t *testing.T) {
	inBubble(t, tidying, store.StreamOptions{RetainUpTo: 50}, func(f *fixture) {
		for i := range 5_000 {
			f.sendData(f.stream, fmt.Sprint(i), strings.Repeat("x", 100))
			if i%500 == 499 {
				f.requireSmall(50 * 200)
			}
		}
		require.LessOrEqual(f, len(f.appendedOf().spans), 3)
		require.LessOrEqual(f, len(f.appendedOf().entries), 3)
		kill(f, f.st)
		f.st = open(f, "dir", f.o)
		f.find()
		require.Equal(f, 50, f.info().Messages)
		m, err := f.stream.Get(f.Context(), "4950")
		require.NoError(f, err)
		require.EqualValues(f, 4951, m.Seq)
	})
}

func (f *fixture) appendedOf() *appendedLog { return f.stream.(*streamHandle).stream().appended }

func TestReplacedMessagesLeaveTheDisk(t *testing.T) {
	inBubble(t, tidying, store.StreamOptions{OneMessagePerKey: true}, func(f *fixture) {
		f.sendData(f.stream, "cold", "first")
		for i := range 5_000 {
			f.sendData(f.stream, fmt.Sprint("key-", i%20), fmt.Sprint(strings.Repeat("x", 100), i))
			if i%500 == 499 {
				f.requireSmall(21 * 200)
			}
		}
		for range 2 {
			all, err := f.stream.List(f.Context(), store.ListQuery{Limit: 100})
			require.NoError(f, err)
			require.Len(f, all, 21)
			require.Equal(f, "cold", all[0].Key)
			require.EqualValues(f, 1, all[0].Seq, "a copy keeps its seq")
			require.Equal(f, all[0].UpdatedAt, all[0].InsertedAt, "and its times")
			for i, m := range all[1:] {
				require.Equal(f, fmt.Sprint(strings.Repeat("x", 100), 4980+i), m.Data)
				require.Less(f, m.InsertedAt, m.UpdatedAt)
			}
			kill(f, f.st)
			f.st = open(f, "dir", f.o)
			f.find()
		}
	})
}

// TestASlowStreamKeepsNoSegmentsOfAFastOne sends one message to a stream for every 50 of another, which keeps only 10.
func TestASlowStreamKeepsNoSegmentsOfAFastOne(t *testing.T) {
	inBubble(t, tidying, store.StreamOptions{}, func(f *fixture) {
		fast, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "fast", RetainUpTo: 10})
		require.NoError(f, err)
		var want []string
		for i := range 10_000 {
			f.sendData(fast, fmt.Sprint(i), strings.Repeat("x", 100))
			if i%50 == 0 {
				require.NoError(f, f.send(fmt.Sprint("slow-", i)))
				want = append(want, fmt.Sprint("slow-", i))
			}
			if i%2000 == 1999 {
				f.requireSmall(int64(len(want)) * 100)
				require.Equal(f, want, f.list())
			}
		}
		kill(f, f.st)
		f.st = open(f, "dir", f.o)
		f.find()
		require.Equal(f, want, f.list())
		keys, _ := f.receive(1000)
		require.Equal(f, want, keys)
	})
}

func TestADeletedStreamLeavesTheDisk(t *testing.T) {
	inBubble(t, tidying, store.StreamOptions{}, func(f *fixture) {
		big, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "big"})
		require.NoError(f, err)
		for i := range 2_000 {
			f.sendData(big, fmt.Sprint(i), strings.Repeat("x", 100))
		}
		require.Greater(f, f.st.Info().DiskBytes, int64(250_000))
		require.NoError(f, big.Delete(f.Context()))
		var want []string
		for i := range 2_000 {
			require.NoError(f, f.send(fmt.Sprint(i)))
			want = append(want, fmt.Sprint(i))
		}
		f.requireSmall(2_000 * 70)
		require.Equal(f, want, f.list())
	})
}

// TestAnAppendedMessageCostsNoMemory counts the index entries of a stream: one for each 64 KiB of the log.
func TestAnAppendedMessageCostsNoMemory(t *testing.T) {
	inBubble(t, Options{SegmentBytes: 1 << 20}, store.StreamOptions{}, func(f *fixture) {
		const n = 20_000
		batch := make([]store.Message, 10)
		for i := range n / len(batch) {
			for j := range batch {
				batch[j] = store.Message{Key: fmt.Sprint(i, j), Data: strings.Repeat("x", 100)}
			}
			_, err := f.stream.Send(f.Context(), store.Once{}, batch)
			require.NoError(f, err)
		}
		size := f.st.Info().DiskBytes
		l := f.appendedOf()
		require.LessOrEqual(f, int64(len(l.entries)), size/indexDistance+int64(f.st.Info().Segments)+1)
		require.LessOrEqual(f, len(l.spans), f.st.Info().Segments)
		require.Empty(f, l.sizes.list)
		require.LessOrEqual(f, size, int64(n*130), "bytes of the log a message")
	})
}

// TestADeletedStreamLeavesAQuietStore deletes a stream of a store to which nothing is written afterwards.
func TestADeletedStreamLeavesAQuietStore(t *testing.T) {
	inBubble(t, Options{SegmentBytes: 16 << 10}, store.StreamOptions{}, func(f *fixture) {
		big, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "big"})
		require.NoError(f, err)
		for i := range 1_000 {
			f.sendData(big, fmt.Sprint(i), strings.Repeat("x", 100))
		}
		require.NoError(f, f.send("kept"))
		require.NoError(f, big.Delete(f.Context()))
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		require.LessOrEqual(f, f.st.Info().Segments, 2, "the newest, and that of the first message")
		after := f.st.log.End()
		time.Sleep(time.Hour)
		require.Equal(f, after, f.st.log.End(), "nothing is written when nothing can be removed")
		for range 2 {
			require.Equal(f, []string{"kept"}, f.list())
			f.reopen(false)
		}
	})
}

// TestADeleteMakesRoomOnAFullDisk fills the disk up to MinFree. When a stream is deleted, sends go on within seconds.
func TestADeleteMakesRoomOnAFullDisk(t *testing.T) {
	o := Options{SegmentBytes: 16 << 10, MinFree: 64 << 10}
	inBubble(t, o, store.StreamOptions{}, func(f *fixture) {
		f.fs.SetCapacity(512 << 10)
		big, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "big"})
		require.NoError(f, err)
		data := []store.Message{{Key: "k", Data: strings.Repeat("x", 1000)}}
		for err == nil {
			_, err = big.Send(f.Context(), store.Once{}, data)
			time.Sleep(lookAgain / 100)
		}
		require.ErrorIs(f, err, store.ErrDiskFull)
		require.ErrorIs(f, f.send("refused"), store.ErrDiskFull)
		require.NoError(f, big.Delete(f.Context()))
		require.Eventually(f, func() bool { return f.send("again") == nil }, 5*lookAgain, lookAgain/2)
		require.Equal(f, []string{"again"}, f.list())
	})
}

// TestWhatWasCopiedBeforeIsNotCopiedAgain copies the middle of a batch, as a repair leaves it that loses the copies of the
// other messages, and then the segment of the batch.
func TestWhatWasCopiedBeforeIsNotCopiedAgain(t *testing.T) {
	inBubble(t, Options{SegmentBytes: 4 << 10}, store.StreamOptions{}, func(f *fixture) {
		want := []string{"0", "1", "2", "3", "4"}
		require.NoError(f, f.send(want...))
		other, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "other"})
		require.NoError(f, err)
		for len(f.st.log.Segments()) == 1 {
			f.sendData(other, "key", strings.Repeat("x", 900))
		}
		for _, part := range [][2]int{{1, 4}, {0, 5}} {
			copied := moving{store: f.st}
			_, err := f.st.log.NewReader().Run(f.st.log.Segments()[0].First, 4<<10, func(rec seglog.Record) bool {
				return rec.Stream != f.stream.(*streamHandle).stream().sid || copied.record(rec)
			})
			require.NoError(f, err)
			copied.list = copied.list[part[0]:part[1]]
			copied.flush()
			require.NoError(f, f.st.log.WaitWritten(f.Context(), copied.pos))
		}
		require.Equal(f, want, f.list())
		for _, s := range f.appendedOf().spans {
			require.NotEqual(f, uint32(1), s.segment)
		}
		kill(f, f.st)
		f.st = open(f, "dir", f.o)
		f.find()
		require.Equal(f, want, f.list())
	})
}
