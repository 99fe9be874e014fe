package durable

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// TestAHealthyStoreHasNoFault checks stores after random operations, with snapshots and without.
func TestAHealthyStoreHasNoFault(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			r := newRandomOperations(t, seed)
			for range 1500 {
				r.step()
			}
			streams := len(r.st.streams.Load().all())
			if seed%2 == 0 {
				kill(t, r.st)
			} else {
				require.NoError(t, r.st.Close())
			}
			report, err := check(t.Context(), "dir", r.o.FS)
			require.NoError(t, err)
			require.Empty(t, report.Faults)
			require.Len(t, report.Streams, streams)
			require.Equal(t, r.st.ID(), report.Store)
		})
	}
}

// TestASnapshotThatIsWrongIsAFault writes one whose consumer has settled more than the log says.
func TestASnapshotThatIsWrongIsAFault(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a", "b"))
		require.NoError(f, f.st.keeper.snapshot(f.Context()))
		f.receive(1)
		f.stream.(*streamHandle).stream().lastAt++
		require.NoError(f, f.st.keeper.snapshot(f.Context()))
		kill(f, f.st)
		report, err := check(f.Context(), "dir", f.fs)
		require.NoError(f, err)
		require.Len(f, report.Faults, 1)
		require.Contains(f, report.Faults[0].Text, "stream s is not what the log makes of it")
	})
}

// damaged is a store with 300 messages of which those in the record of message 150 are damaged, and messages 1 to 200 are acked.
func damagedStore(f *fixture) {
	for i := range 300 {
		require.NoError(f, f.send(fmt.Sprint("key-", i)))
		if i == 199 {
			_, ids := f.receive(1000)
			require.NoError(f, f.consumer.Settle(f.Context(), ids, store.Ack))
		}
	}
	kill(f, f.st)
	damage(f, f.fs, "data of key-149")
}

// damage changes a byte of the text wherever a segment has it.
func damage(f *fixture, fs *crashfs.FS, text string) {
	files, err := fs.List("dir")
	require.NoError(f, err)
	for _, file := range files {
		fs.Edit("dir/"+file.Name, func(b []byte) []byte {
			if i := bytes.Index(b, []byte(text)); i >= 0 && len(file.Name) > 4 && file.Name[len(file.Name)-4:] == ".seg" {
				b[i]++
			}
			return b
		})
	}
}

func TestARepairSavesWhatCanBeReadAndListsWhatIsLost(t *testing.T) {
	for name, so := range map[string]store.StreamOptions{"appending": {}, "one message per key": {OneMessagePerKey: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{SegmentBytes: 4 << 10}, so, func(f *fixture) {
				damagedStore(f)
				_, err := Open("dir", f.o)
				require.ErrorIs(f, err, store.ErrDamaged)
				report, err := check(f.Context(), "dir", f.fs)
				require.NoError(f, err)
				require.Len(f, report.Faults, 1)
				require.Equal(f, []SeqRange{{150, 150}}, report.Streams[0].Lost)
				repaired, err := repair(f.Context(), "dir", "new", f.fs)
				require.NoError(f, err)
				require.Equal(f, report, repaired)

				f.st = open(f, "new", f.o)
				f.find()
				var want []string
				bytes := int64(0)
				for i := range 300 {
					if key := fmt.Sprint("key-", i); i != 149 {
						want = append(want, key)
						bytes += int64(len(key + "data of " + key))
					}
				}
				require.Equal(f, want, f.list())
				require.Equal(f, bytes, f.info().Bytes)
				keys, _ := f.receive(1000)
				require.Subset(f, keys, want[199:], "what was not acked comes")
				require.NoError(f, f.send("key-300"))
				require.NoError(f, f.st.Close())
				report, err = check(f.Context(), "new", f.fs)
				require.NoError(f, err)
				require.Empty(f, report.Faults)
			})
		})
	}
}

// TestAfterARepairAMessageComesAgainRatherThanNever damages the record of a receive, of an ack, and of both.
func TestAfterARepairAMessageComesAgainRatherThanNever(t *testing.T) {
	for lost := range 4 {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
				for i := range 10 {
					require.NoError(f, f.send(fmt.Sprint(i)))
				}
				var bad []int64
				record := func(do func()) {
					bad = append(bad, f.st.log.End().Offset())
					do()
				}
				var first, second []store.ID
				record(func() { _, first = f.receive(3) })
				record(func() { require.NoError(f, f.consumer.Settle(f.Context(), first[:2], store.Ack)) })
				_, second = f.receive(3)
				require.NoError(f, f.consumer.Settle(f.Context(), second[:2], store.Ack))
				kill(f, f.st)
				f.fs.Edit("dir/00000001.seg", func(b []byte) []byte {
					for i, at := range bad {
						if lost&(1<<i) != 0 {
							b[at+40]++
						}
					}
					return b
				})
				_, err := repair(f.Context(), "dir", "new", f.fs)
				require.NoError(f, err)
				f.st = open(f, "new", f.o)
				f.find()
				time.Sleep(time.Hour)
				keys, _ := f.receive(100)
				require.Subset(f, keys, []string{"2", "5", "6", "7", "8", "9"})
				require.NotContains(f, keys, "3", "its ack is there")
				if lost == 0 {
					require.Len(f, keys, 6)
				}
			})
		})
	}
}

// TestALostMessageDoesNotStopRetention repairs a store that drops old messages, and sends on.
func TestALostMessageDoesNotStopRetention(t *testing.T) {
	inBubble(t, Options{SegmentBytes: 4 << 10}, store.StreamOptions{MaxBytes: 2000}, func(f *fixture) {
		for i := range 100 {
			require.NoError(f, f.send(fmt.Sprint("key-", i)))
		}
		kill(f, f.st)
		damage(f, f.fs, "data of key-70")
		_, err := repair(f.Context(), "dir", "new", f.fs)
		require.NoError(f, err)
		f.st = open(f, "new", f.o)
		f.find()
		for i := range 200 {
			require.NoError(f, f.send(fmt.Sprint("new-", i)))
			require.LessOrEqual(f, f.info().Bytes, int64(2000))
		}
		require.Len(f, f.list(), f.info().Messages)
	})
}
