package durable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

// randomOperations runs operations on a store in memory files.
type randomOperations struct {
	t      *testing.T
	random *rand.Rand
	o      Options
	st     *Store
	ids    map[string][]store.ID // by consumer
	sends  int
}

func newRandomOperations(t *testing.T, seed uint64) *randomOperations {
	o := Options{
		FS: crashfs.New(), Sync: SyncEvery(time.Second), MinFree: -1, SegmentBytes: 8 << 10, SnapshotBytes: 1 << 40, CleanSlack: 1,
		maxMet: 3 + int(seed%3)*20,
	}
	r := &randomOperations{t: t, random: rand.New(rand.NewPCG(seed, 5)), o: o, ids: map[string][]store.ID{}}
	r.st = open(t, "dir", o)
	t.Cleanup(func() { _ = r.st.Close() })
	for i, so := range []store.StreamOptions{
		{}, {RetainUpTo: 40}, {MaxBytes: 600, RetainAtLeast: 5},
		{OneMessagePerKey: true}, {OneMessagePerKey: true, MaxBytes: 200, RetainUpTo: 12, ProcessUnmodified: true},
	} {
		so.Name = fmt.Sprint("s", i)
		_, err := r.st.CreateStream(t.Context(), so)
		require.NoError(t, err)
	}
	return r
}

// stream returns one of the streams. A new one may take the place of a deleted one.
func (r *randomOperations) stream() store.Stream {
	name := fmt.Sprint("s", r.random.IntN(5))
	s, err := r.st.Stream(r.t.Context(), name)
	if errors.Is(err, store.ErrNoStream) {
		s, err = r.st.CreateStream(r.t.Context(), store.StreamOptions{Name: name, OneMessagePerKey: r.random.IntN(2) == 0})
	}
	require.NoError(r.t, err)
	return s
}

func (r *randomOperations) consumer() store.Consumer {
	s, name := r.stream(), fmt.Sprint("c", r.random.IntN(3))
	c, err := s.Consumer(r.t.Context(), name)
	if errors.Is(err, store.ErrNoConsumer) {
		limits := store.ConsumerLimits{AckWait: 5 * time.Second, MaxAckPending: 10, MaxDeliver: r.random.IntN(4), MaxWaiting: 2}
		filter := []string{">", "a.>", "a.1"}[r.random.IntN(3)]
		c, err = s.CreateConsumer(r.t.Context(), store.ConsumerOptions{
			Name: name, Filter: filter, Start: r.random.Int64N(2) * r.random.Int64N(1_000), ConsumerLimits: limits,
		})
	}
	require.NoError(r.t, err)
	return c
}

func (r *randomOperations) step() {
	ctx := r.t.Context()
	switch n := r.random.IntN(100); {
	case n < 35:
		r.send(ctx)
	case n < 65:
		c := r.consumer()
		got, err := c.Receive(ctx, 1+r.random.IntN(6), nil)
		require.NoError(r.t, err)
		for _, d := range got {
			r.ids[c.ID()] = append(r.ids[c.ID()], d.ID)
		}
	case n < 88:
		r.settle(ctx)
	case n < 95:
		time.Sleep(time.Duration(r.random.IntN(3000)) * time.Millisecond)
	case n < 97:
		limits := store.ConsumerLimits{AckWait: time.Second, MaxAckPending: 1 + r.random.IntN(9), MaxDeliver: r.random.IntN(4), MaxWaiting: 2}
		_, err := r.consumer().Update(ctx, limits)
		require.NoError(r.t, err)
	case n < 98:
		require.NoError(r.t, r.consumer().Delete(ctx))
	case n < 99 && r.random.IntN(2) == 0:
		r.purge(ctx)
	case n < 99 && r.random.IntN(4) == 0:
		require.NoError(r.t, r.stream().Delete(ctx))
	case r.random.IntN(2) == 0:
		require.NoError(r.t, r.st.keeper.snapshot(ctx))
		require.NoError(r.t, r.st.keeper.clean(ctx))
	case r.random.IntN(4) == 0:
		if r.random.IntN(2) == 0 {
			kill(r.t, r.st)
		} else {
			require.NoError(r.t, r.st.Close())
		}
		r.st = open(r.t, "dir", r.o)
		r.st.recordOpening() // an opening that records nothing leaves no trace for a replay
	}
}

func (r *randomOperations) send(ctx context.Context) {
	batch := make([]store.Message, 1+r.random.IntN(6))
	for i := range batch {
		batch[i] = store.Message{
			Key:  []string{"a.1", "a.2", "a.3.x", "b", "c.1", "d.1"}[r.random.IntN(6)],
			Data: []string{"x", "yy", "a longer one"}[r.random.IntN(3)],
		}
		if r.random.IntN(8) == 0 {
			batch[i].Headers = []headers.Packed{"n\x001\x00", "n\x002\x00"}[r.random.IntN(2)]
		}
	}
	once := store.Once{}
	if r.random.IntN(3) == 0 {
		r.sends++
		once = store.Once{Key: fmt.Sprint(r.random.IntN(r.sends) + 1), Body: []byte("x"), PartOf: []string{fmt.Sprint(r.random.IntN(r.sends))}}
	}
	_, err := r.stream().Send(ctx, once, batch)
	if !errors.Is(err, store.ErrFull) {
		require.NoError(r.t, err)
	}
}

func (r *randomOperations) purge(ctx context.Context) {
	s := r.stream()
	info, err := s.Info(ctx)
	require.NoError(r.t, err)
	q := store.PurgeQuery{Pattern: []string{"", "a.>", "a.1", "b"}[r.random.IntN(4)]}
	if all, err := s.List(ctx, store.ListQuery{Limit: 50}); r.random.IntN(4) > 0 && len(all) > 0 {
		require.NoError(r.t, err)
		q.Before = all[r.random.IntN(len(all))].Seq + int64(r.random.IntN(3))
	}
	n, err := s.(store.ExtendedStream).Purge(ctx, q)
	require.NoError(r.t, err)
	after, err := s.Info(ctx)
	require.NoError(r.t, err)
	require.Equal(r.t, info.Messages-n, after.Messages)
}

func (r *randomOperations) settle(ctx context.Context) {
	c := r.consumer()
	all := r.ids[c.ID()]
	var ids []store.ID
	for range r.random.IntN(6) {
		if len(all) > 0 {
			recent := all[max(0, len(all)-12):]
			ids = append(ids, recent[r.random.IntN(len(recent))])
		}
	}
	if r.random.IntN(6) == 0 {
		_, err := c.Extend(ctx, ids, time.Duration(r.random.IntN(90))*time.Second)
		require.NoError(r.t, err)
		return
	}
	if r.random.IntN(4) == 0 {
		delay := time.Duration(r.random.IntN(60)) * time.Second
		require.NoError(r.t, c.Delay(ctx, ids, store.Nack+store.Settlement(r.random.IntN(2)), delay))
		return
	}
	require.NoError(r.t, c.Settle(ctx, ids, store.Settlement(r.random.IntN(3))))
}

// TestAReplayMakesTheStateThatTheStoreHas compares the two after every 100th of 10^5 operations. Segments are small and
// MaxMet too, so that everything happens.
func TestAReplayMakesTheStateThatTheStoreHas(t *testing.T) {
	const seeds, steps = 25, 4_000
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRandomOperations(t, seed)
				for i := range steps {
					r.step()
					if i%100 == 99 {
						requireReplay(t, r.st, i)
					}
				}
				require.NoError(t, r.st.Close())
			})
		})
	}
}
