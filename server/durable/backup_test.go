package durable

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/durable/internal/torture"
	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// slowly lets time pass before a file is opened or linked, so that the store goes on during a backup.
type slowly struct {
	vfs.FS
	pause time.Duration
}

func (s slowly) Open(name string) (vfs.File, error) {
	time.Sleep(s.pause)
	return s.FS.Open(name)
}

func (s slowly) Link(from, to string) error {
	time.Sleep(s.pause)
	return s.FS.Link(from, to)
}

// TestABackupOfAStoreInUseIsTheStoreAtAMoment makes backups under a load that sends, settles, and removes and copies segments. Each
// has what was answered before it began, and nothing that was answered after something that it has not.
func TestABackupOfAStoreInUseIsTheStoreAtAMoment(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			fs := crashfs.New()
			o := Options{FS: fs, MinFree: -1, SegmentBytes: 64 << 10, SnapshotBytes: 128 << 10}
			if seed%2 == 1 {
				o.SegmentBytes, o.SnapshotBytes, o.CleanSlack = 8<<10, 32<<10, 1
			}
			st := open(t, "dir", o)
			require.NoError(t, torture.Setup(t.Context(), st))
			var j torture.Journal
			var load sync.WaitGroup
			load.Go(func() {
				plan := torture.Plan{Seed: seed, Steps: 150, Think: 4 * time.Millisecond}
				require.NoError(t, torture.NewWorkload(st, plan, j.Add).Run(t.Context()))
			})
			type backup struct{ begun, ended int }
			var all []backup
			for n := range 6 {
				time.Sleep(20 * time.Millisecond)
				begun := len(j.Events())
				_, err := backUp(t.Context(), "dir", fmt.Sprint("to-", n), slowly{fs, 10 * time.Microsecond})
				require.NoError(t, err, "seed %d, backup %d", seed, n)
				all = append(all, backup{begun, len(j.Events())})
			}
			load.Wait()
			require.NoError(t, st.Close())
			for n, b := range all {
				a := torture.NewAccounts()
				for _, e := range j.Events()[:b.ended] {
					a.Apply(e)
				}
				a.Crashed(true)
				copied := open(t, fmt.Sprint("to-", n), o)
				require.Empty(t, a.Check(t.Context(), copied, true), "seed %d, backup %d", seed, n)
				require.NoError(t, copied.Close())
			}
		})
	}
}

// TestABackupHasWhatWasAnsweredBefore compares a backup with the store, which goes on. What is sent to one is not in the other.
func TestABackupHasWhatWasAnsweredBefore(t *testing.T) {
	for name, so := range map[string]store.StreamOptions{"appending": {}, "one message per key": {OneMessagePerKey: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{SegmentBytes: 4 << 10}, so, func(f *fixture) {
				var want []string
				for i := range 200 {
					require.NoError(f, f.send(fmt.Sprint(i)))
					want = append(want, fmt.Sprint(i))
				}
				keys, ids := f.receive(50)
				require.NoError(f, f.consumer.Settle(f.Context(), ids[:40], store.Ack))
				report, err := backUp(f.Context(), "dir", "to", f.fs)
				require.NoError(f, err)
				require.Equal(f, 200, report.Streams[0].Messages)
				require.NoError(f, f.send("after"))
				require.Equal(f, append(want, "after"), f.list())

				_, err = backUp(f.Context(), "dir", "to", f.fs)
				require.EqualError(f, err, "to is not empty")
				_, err = backUp(f.Context(), "nowhere", "new", f.fs)
				require.EqualError(f, err, "nowhere holds no store")

				was := f.st
				f.st = open(f, "to", f.o)
				f.find()
				require.Equal(f, want, f.list())
				require.NoError(f, f.send("other"))
				time.Sleep(time.Hour) // the leases end
				again, _ := f.receive(1000)
				require.Equal(f, append(append(keys[40:], want[50:]...), "other"), again)
				require.NoError(f, f.st.Close())
				f.st = was
				f.find()
				require.Equal(f, append(want, "after"), f.list())
			})
		})
	}
}

// TestABackupOfADamagedStoreSaysSo damages a segment that is complete, and the last one.
func TestABackupOfADamagedStoreSaysSo(t *testing.T) {
	for _, key := range []string{"5", "199"} {
		inBubble(t, Options{SegmentBytes: 4 << 10}, store.StreamOptions{}, func(f *fixture) {
			for i := range 200 {
				require.NoError(f, f.send(fmt.Sprint(i)))
			}
			require.NoError(f, f.send("last"))
			time.Sleep(time.Minute) // the log notes that all is synced
			damage(f, f.fs, "data of "+key)
			_, err := backUp(f.Context(), "dir", "to", f.fs)
			require.ErrorIs(f, err, ErrDamaged, key)
		})
	}
}

func TestABackupEndsWithItsContext(t *testing.T) {
	inBubble(t, Options{SegmentBytes: 4 << 10}, store.StreamOptions{}, func(f *fixture) {
		for i := range 200 {
			require.NoError(f, f.send(fmt.Sprint(i)))
		}
		ctx, cancel := context.WithCancel(f.Context())
		cancel()
		_, err := backUp(ctx, "dir", "to", f.fs)
		require.ErrorIs(f, err, context.Canceled)
		_, err = Backup(f.Context(), "dir", "dir/to")
		require.EqualError(f, err, "dir/to is inside dir, which must not change")
	})
}

// TestAckIDsOfADeliveryAfterTheBackupAreRefused because the copy may make a delivery of the same message in the same receive.
func TestAckIDsOfADeliveryAfterTheBackupAreRefused(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a"))
		_, err := backUp(f.Context(), "dir", "copy", f.fs)
		require.NoError(f, err)
		f.reopen(false)
		_, later := f.receive(1)

		restored := open(f.T, "copy", f.o)
		s, err := restored.Stream(f.Context(), "s")
		require.NoError(f, err)
		c, err := s.Consumer(f.Context(), "c")
		require.NoError(f, err)
		got, err := c.Receive(f.Context(), 1, nil)
		require.NoError(f, err)
		require.Len(f, got, 1)
		require.NotEqual(f, later[0], got[0].ID)
		require.NoError(f, c.Settle(f.Context(), later, store.Ack))
		time.Sleep(time.Hour)
		got, err = c.Receive(f.Context(), 1, nil)
		require.NoError(f, err)
		require.Len(f, got, 1, "the ack was of another delivery")
		require.NoError(f, restored.Close())
	})
}
