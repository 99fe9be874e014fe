package durable

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

func (f *fixture) purge(q store.PurgeQuery) int {
	f.Helper()
	n, err := f.stream.(store.ExtendedStream).Purge(f.Context(), q)
	require.NoError(f, err)
	return n
}

// keys returns the keys of all messages.
func (f *fixture) keys() (keys []string) {
	f.Helper()
	all, err := f.stream.List(f.Context(), store.ListQuery{Limit: 10_000})
	require.NoError(f, err)
	for _, m := range all {
		keys = append(keys, m.Key)
	}
	return keys
}

// TestPurgedMessagesLeaveTheDisk purges eight of nine messages, which are in every segment, and later all.
func TestPurgedMessagesLeaveTheDisk(t *testing.T) {
	for _, so := range []store.StreamOptions{{}, {OneMessagePerKey: true}} {
		t.Run(fmt.Sprint("one per key ", so.OneMessagePerKey), func(t *testing.T) {
			inBubble(t, tidying, so, func(f *fixture) {
				for i := range 9_000 {
					f.sendData(f.stream, fmt.Sprint([]string{"a.", "a.", "b."}[i%3], i/3%3, ".", i), strings.Repeat("x", 100))
				}
				require.Equal(f, 6_000, f.purge(store.PurgeQuery{Pattern: "a.>"}))
				require.Equal(f, 2_000, f.purge(store.PurgeQuery{Pattern: "b.0.*"})+f.purge(store.PurgeQuery{Pattern: "b.2.*"}))
				want := f.keys()
				require.Len(f, want, 1_000)
				time.Sleep(10 * lookEvery)
				f.requireSmall(1_000 * 120)
				require.Equal(f, want, f.keys())
				f.reopen(true)
				require.Equal(f, want, f.keys())
				keys, _ := f.receive(2_000)
				require.Equal(f, want, keys)
				require.Equal(f, 1_000, f.purge(store.PurgeQuery{}))
				time.Sleep(10 * lookEvery)
				f.requireSmall(0)
				require.NoError(f, f.send("next"))
				f.reopen(false)
				require.Equal(f, []string{"next"}, f.keys())
			})
		})
	}
}

// TestAPurgedKeyStaysAway replaces a message in a segment that lives on, and purges the key in a later segment, which is dead
// then. If that segment were removed first, the next opening would find the first message of the key.
func TestAPurgedKeyStaysAway(t *testing.T) {
	o := tidying
	o.CleanSlack = 1 << 30 // nothing is copied
	inBubble(t, o, store.StreamOptions{OneMessagePerKey: true}, func(f *fixture) {
		fill := func() {
			for i := range 500 {
				f.sendData(f.stream, fmt.Sprint("hot.", i%5), fmt.Sprint(strings.Repeat("x", 100), i))
			}
		}
		require.NoError(f, f.send("cold", "k"))
		fill()
		f.sendData(f.stream, "k", "again")
		fill()
		require.Equal(f, 1, f.purge(store.PurgeQuery{Pattern: "k"}))
		fill()
		fill()
		time.Sleep(10 * lookEvery)
		want := []string{"cold", "hot.0", "hot.1", "hot.2", "hot.3", "hot.4"}
		for range 3 {
			require.Equal(f, want, f.keys())
			require.Equal(f, 6, f.info().Messages)
			f.reopen(true)
			time.Sleep(10 * lookEvery)
		}
	})
}

// TestOneOldMessageKeepsNoPurgedOnesOnDisk has a message in the oldest segment, before which none of the purged ones may go.
func TestOneOldMessageKeepsNoPurgedOnesOnDisk(t *testing.T) {
	inBubble(t, tidying, store.StreamOptions{OneMessagePerKey: true}, func(f *fixture) {
		require.NoError(f, f.send("cold"))
		for i := range 3_000 {
			f.sendData(f.stream, fmt.Sprint("hot.", i), strings.Repeat("x", 100))
		}
		require.Equal(f, 3_000, f.purge(store.PurgeQuery{Pattern: "hot.*"}))
		time.Sleep(10 * lookEvery)
		f.requireSmall(100)
		f.reopen(true)
		require.Equal(f, []string{"cold"}, f.keys())
	})
}

// TestARepairRestoresNothingThatWasPurged loses one message of a stream in which others were purged.
func TestARepairRestoresNothingThatWasPurged(t *testing.T) {
	for _, so := range []store.StreamOptions{{}, {OneMessagePerKey: true}} {
		t.Run(fmt.Sprint("one per key ", so.OneMessagePerKey), func(t *testing.T) {
			inBubble(t, Options{}, so, func(f *fixture) {
				for i := range 12 {
					require.NoError(f, f.send(fmt.Sprint("key-", i)))
				}
				for _, key := range []string{"key-0", "key-4", "key-5", "key-11"} {
					f.purge(store.PurgeQuery{Pattern: key})
				}
				require.NoError(f, f.st.Close())
				damage(f, f.fs, "data of key-7")
				report, err := repair(f.Context(), "dir", "new", f.fs)
				require.NoError(f, err)
				if !so.OneMessagePerKey {
					require.Equal(f, []SeqRange{{8, 8}}, report.Streams[0].Lost)
					require.Equal(f, 7, report.Streams[0].Messages)
				}
				f.st = open(f, "new", f.o)
				f.find()
				want := []string{"key-1", "key-2", "key-3", "key-6", "key-8", "key-9", "key-10"}
				require.Equal(f, want, f.keys())
				require.Equal(f, 7, f.info().Messages)
				keys, _ := f.receive(2_000)
				require.Equal(f, want, keys)
			})
		})
	}
}

// TestAPurgeThatEndsHalfwaySaysSo fails the write of the second record of a purge. Nothing may say that nothing was changed.
func TestAPurgeThatEndsHalfwaySaysSo(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		batch := make([]store.Message, 1_000)
		for i := range batch {
			batch[i] = store.Message{Key: []string{"a", "b"}[i%2]}
		}
		for range 140 {
			_, err := f.stream.Send(f.Context(), store.Once{}, batch)
			require.NoError(f, err)
		}
		writes := 0
		f.fs.SetHook(func(op crashfs.Op) error {
			if op.Kind != crashfs.Write || !strings.Contains(op.Name, ".seg") {
				return nil
			}
			if writes++; writes == 3 {
				return errors.New("the second record cannot be written")
			}
			return nil
		})
		_, err := f.stream.(store.ExtendedStream).Purge(f.Context(), store.PurgeQuery{Pattern: "a"})
		require.ErrorIs(f, err, store.ErrUnknown)
		require.ErrorContains(f, err, "65536 messages are purged, and others may not be")
		f.fs.SetHook(nil)
		time.Sleep(time.Minute)
		require.Equal(f, 140_000-65_536, f.info().Messages)
	})
}

// TestALargePurgeIsSeveralRecords purges more messages than one record does, while others are sent.
func TestALargePurgeIsSeveralRecords(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		batch := make([]store.Message, 1_000)
		for i := range batch {
			batch[i] = store.Message{Key: []string{"a", "b"}[i%2], Data: "x"}
		}
		for range 140 {
			_, err := f.stream.Send(f.Context(), store.Once{}, batch)
			require.NoError(f, err)
		}
		require.Equal(f, 70_000, f.purge(store.PurgeQuery{Pattern: "a"}))
		f.reopen(true)
		require.Equal(f, 70_000, f.info().Messages)
		require.EqualValues(f, 140_000, f.info().Bytes)
		last, err := f.stream.List(f.Context(), store.ListQuery{Limit: 1, Desc: true})
		require.NoError(f, err)
		require.EqualValues(f, 140_000, last[0].Seq)
		require.Equal(f, 69_999, f.purge(store.PurgeQuery{Before: 140_000}))
		require.Equal(f, []string{"b"}, f.keys())
	})
}
