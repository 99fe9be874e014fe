package durable

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// repairing is a store of three streams with a consumer each, and what was done to it.
type repairing struct {
	o     Options
	fs    *crashfs.FS
	all   map[string]map[int64]string // data by stream and seq
	acked map[string]map[int64]bool
}

const repairedAckWait = time.Minute

func newRepairing(t *testing.T, random *rand.Rand) *repairing {
	fs := crashfs.New()
	r := &repairing{fs: fs, all: map[string]map[int64]string{}, acked: map[string]map[int64]bool{}}
	r.o = Options{FS: fs, MinFree: -1, SegmentBytes: 16 << 10, SnapshotBytes: 64 << 10, CleanSlack: 16 << 10}
	st := open(t, "dir", r.o)
	limits := store.ConsumerLimits{AckWait: repairedAckWait, MaxAckPending: 100_000, MaxWaiting: 9}
	streams := map[string]store.Stream{}
	consumers := map[string]store.Consumer{}
	names := []string{"appending", "retaining", "replacing"}
	for _, name := range names {
		o := store.StreamOptions{Name: name, OneMessagePerKey: name == "replacing"}
		if name == "retaining" {
			o.RetainUpTo = 100
		}
		s, err := st.CreateStream(t.Context(), o)
		require.NoError(t, err)
		c, err := s.CreateConsumer(t.Context(), store.ConsumerOptions{Name: "c", Filter: ">", ConsumerLimits: limits})
		require.NoError(t, err)
		streams[name], consumers[name], r.acked[name] = s, c, map[int64]bool{}
	}
	for i := range 600 {
		name := names[random.IntN(len(names))]
		var batch []store.Message
		for j := range 1 + random.IntN(5) {
			data := fmt.Sprint(i, " ", j, strings.Repeat("x", random.IntN(400)))
			batch = append(batch, store.Message{Key: fmt.Sprint("key-", random.IntN(60)), Data: data})
		}
		_, err := streams[name].Send(t.Context(), store.Once{}, batch)
		require.NoError(t, err)
		if random.IntN(3) > 0 {
			continue
		}
		got, err := consumers[name].Receive(t.Context(), 10, nil)
		require.NoError(t, err)
		var ids []store.ID
		for _, d := range got {
			if random.IntN(10) < 8 {
				ids = append(ids, d.ID)
				r.acked[name][d.Seq] = true
			}
		}
		require.NoError(t, consumers[name].Settle(t.Context(), ids, store.Ack))
	}
	for name, s := range streams {
		r.all[name] = listed(t, s)
	}
	require.NoError(t, st.Close())
	return r
}

// listed returns the data of all messages by seq.
func listed(t *testing.T, s store.Stream) map[int64]string {
	all, err := s.List(t.Context(), store.ListQuery{Limit: 100_000})
	require.NoError(t, err)
	out := map[int64]string{}
	for _, m := range all {
		out[m.Seq] = m.Data
	}
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, info.Messages, len(out))
	return out
}

// damage damages up to three files, and says how.
func (r *repairing) damage(t *testing.T, fs *crashfs.FS, random *rand.Rand) (what string) {
	files, err := fs.List("dir")
	require.NoError(t, err)
	for range 1 + random.IntN(3) {
		file := files[random.IntN(len(files))]
		kind := []string{"a flipped bit", "a flipped bit", "zeros", "a cut", "no file"}[random.IntN(5)]
		if file.Size == 0 || file.Name == "lock" {
			continue
		}
		at := random.IntN(int(file.Size))
		what += fmt.Sprintf("%s at %d of %s; ", kind, at, file.Name)
		if kind == "no file" {
			_ = fs.Remove("dir/" + file.Name) // or it is gone already
			continue
		}
		fs.Edit("dir/"+file.Name, func(b []byte) []byte {
			at = min(at, len(b)-1)
			switch {
			case at < 0:
			case kind == "zeros":
				clear(b[at&^1023 : min(at|1023, len(b))])
			case kind == "a cut":
				b = b[:at]
			default:
				b[at] ^= 1 << random.IntN(8)
			}
			return b
		})
	}
	return what
}

// TestARepairLosesNothingButWhatItLists damages the files of a store at random and repairs it. Each message is there or
// listed as lost, each that was not acked comes, and the store goes on as any other.
func TestARepairLosesNothingButWhatItLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(15, 16))
		r := newRepairing(t, random)
		for range 8 {
			fs := r.fs.Crash(1, random)
			what := r.damage(t, fs, random)
			report, err := repair(t.Context(), "dir", "new", fs)
			require.NoError(t, err, what)
			r.o.FS = fs
			st := open(t, "new", r.o)
			t.Cleanup(func() { _ = st.Close() })
			for _, stream := range report.Streams {
				r.requireSaved(t, st, stream, what)
			}
			require.NoError(t, st.Close(), what)
			after, err := check(t.Context(), "new", fs)
			require.NoError(t, err, what)
			require.Empty(t, after.Faults, what)
		}
	})
}

func (r *repairing) requireSaved(t *testing.T, st *Store, report StreamReport, what string) {
	t.Helper()
	s, err := st.Stream(t.Context(), report.Name)
	require.NoError(t, err, what)
	got := listed(t, s)
	require.Len(t, got, report.Messages, what)
	for seq, data := range r.all[report.Name] {
		if there, ok := got[seq]; ok {
			require.Equal(t, data, there, what)
			continue
		}
		lost := func(l SeqRange) bool { return l.First <= seq && seq <= l.Last }
		require.True(t, slices.ContainsFunc(report.Lost, lost), "message %d of %s is not listed as lost: %v; %s", seq, report.Name, report.Lost, what)
	}
	c, err := s.Consumer(t.Context(), "c")
	if err == store.ErrNoConsumer {
		require.Zero(t, report.Consumers, what)
		return
	}
	require.NoError(t, err, what)
	time.Sleep(repairedAckWait)
	for {
		ds, err := c.Receive(t.Context(), 1000, nil)
		require.NoError(t, err, what)
		if len(ds) == 0 {
			break
		}
		var ids []store.ID
		for _, d := range ds {
			delete(got, d.Seq)
			ids = append(ids, d.ID)
		}
		require.NoError(t, c.Settle(t.Context(), ids, store.Ack), what)
	}
	for seq := range r.all[report.Name] {
		_, left := got[seq]
		require.True(t, !left || r.acked[report.Name][seq], "message %d of %s does not come; %s", seq, report.Name, what)
	}
	for i := range 60 {
		_, err := s.Send(t.Context(), store.Once{}, []store.Message{{Key: fmt.Sprint("key-", i), Data: strings.Repeat("y", 1000)}})
		require.NoError(t, err, what)
	}
	synctest.Wait()
	listed(t, s)
}
