package durable

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/transfer"
)

// shownStream is what a store shows of a stream, without the ids.
type shownStream struct {
	info      store.StreamInfo
	next      int64
	messages  []store.Message
	consumers []store.ConsumerInfo
	views     [][]store.View
}

func showAll(t *testing.T, st *Store) (all []shownStream) {
	ctx := t.Context()
	streams, err := st.Streams(ctx)
	require.NoError(t, err)
	for _, s := range streams {
		var x shownStream
		x.info, err = s.Info(ctx)
		require.NoError(t, err)
		x.next, err = s.(store.CopyableStream).NextSeq(ctx)
		require.NoError(t, err)
		x.messages, err = s.List(ctx, store.ListQuery{Limit: 1 << 30})
		require.NoError(t, err)
		consumers, err := s.Consumers(ctx)
		require.NoError(t, err)
		for _, c := range consumers {
			info, err := c.Info(ctx)
			require.NoError(t, err)
			views, err := c.Peek(ctx, store.PeekQuery{ListQuery: store.ListQuery{Limit: 1 << 30}})
			require.NoError(t, err)
			info.ID, info.StreamID = "", ""
			x.consumers, x.views = append(x.consumers, info), append(x.views, views)
		}
		x.info.ID = ""
		all = append(all, x)
	}
	return all
}

// TestACopyOfAnyStoreIsHealthyAndTheSame copies stores after random operations. The copy has what the store has, its log makes
// the same state again, and both deliver the same.
func TestACopyOfAnyStoreIsHealthyAndTheSame(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRandomOperations(t, seed)
				for range 600 {
					r.step()
				}
				o := r.o
				o.FS = crashfs.New()
				to := open(t, "dir", o)
				t.Cleanup(func() { _ = to.Close() })
				_, err := transfer.Copy(t.Context(), r.st, to, transfer.Options{})
				require.NoError(t, err)
				require.Equal(t, showAll(t, r.st), showAll(t, to))
				requireReplay(t, to, 0)
				if seed%2 == 0 {
					require.NoError(t, to.keeper.snapshot(t.Context()))
				}
				kill(t, to)
				report, err := check(t.Context(), "dir", o.FS)
				require.NoError(t, err)
				require.Empty(t, report.Faults)
				for _, s := range report.Streams {
					require.Empty(t, s.Lost, "a gap of the stream is no loss")
				}
				to = open(t, "dir", o)
				require.Equal(t, showAll(t, r.st), showAll(t, to))
				canceled, err := transfer.Cancel(t.Context(), r.st, nil, transfer.Options{})
				require.NoError(t, err)
				require.NotEmpty(t, canceled)
				require.Equal(t, deliverAll(t, r.st), deliverAll(t, to))
			})
		})
	}
}

// deliverAll delivers and acks all messages of all consumers. It returns them in their order, by stream, consumer and key: which key
// comes first depends on when delays end.
func deliverAll(t *testing.T, st *Store) map[string][]string {
	ctx := context.Background()
	all := map[string][]string{}
	streams, err := st.Streams(ctx)
	require.NoError(t, err)
	for n, s := range streams {
		consumers, err := s.Consumers(ctx)
		require.NoError(t, err)
		for i, c := range consumers {
			for idle := 0; idle < 2; {
				got, err := c.Receive(ctx, 5, nil)
				require.NoError(t, err)
				var ids []store.ID
				for _, d := range got {
					ids = append(ids, d.ID)
					place := fmt.Sprint(n, " ", i, " ", d.Key)
					all[place] = append(all[place], fmt.Sprint(d.Seq, d.Key, d.Data, d.Count, d.Expired))
				}
				require.NoError(t, c.Settle(ctx, ids, store.Ack))
				if idle++; len(got) > 0 {
					idle = 0
				} else {
					time.Sleep(2 * time.Minute) // delays end
				}
			}
		}
	}
	return all
}
