package storetest

import (
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var endTests = []test{
	{promise: "a deletion of the consumer wakes all places", check: func(f *fixture) {
		f.requireWoken(func() { require.NoError(f.t, f.consumer.Delete(f.t.Context())) }, store.ErrNoConsumer)
	}},
	{promise: "a deletion of the stream wakes all places", check: func(f *fixture) {
		f.requireWoken(func() { require.NoError(f.t, f.stream.Delete(f.t.Context())) }, store.ErrNoConsumer)
	}},
	{promise: "Close wakes all places", check: func(f *fixture) {
		f.requireWoken(func() { require.NoError(f.t, f.store.Close()) }, store.ErrClosed)
	}},
	{promise: "a closed store refuses every change", check: closedRefuses},
	{promise: "Close may be called more than once", check: closedTwice},
}

// requireWoken holds that end wakes the place that is called and those that are not, and what they return then.
func (f *fixture) requireWoken(end func(), want error) {
	f.t.Helper()
	places := []store.Place{f.queue(), f.queue(), f.queue()}
	f.send("a")
	end()
	for _, p := range places {
		f.requireCalled(p)
		_, err := p.Receive(f.t.Context(), 1, nil)
		require.ErrorIs(f.t, err, want)
	}
}

func closedRefuses(f *fixture) {
	f.send("a")
	leased := f.receive(1)
	_, err := f.sendOnce("k", nil, "b")
	require.NoError(f.t, err)
	require.NoError(f.t, f.store.Close())
	ctx := f.t.Context()
	require.ErrorIs(f.t, f.store.Probe(ctx), store.ErrClosed)
	_, err = f.store.CreateStream(ctx, store.StreamOptions{Name: "t"})
	require.ErrorIs(f.t, err, store.ErrClosed)
	_, err = f.stream.Send(ctx, store.Once{}, batch([]string{"a"}))
	require.ErrorIs(f.t, err, store.ErrClosed)
	_, err = f.sendOnce("k", nil, "b")
	require.ErrorIs(f.t, err, store.ErrClosed, "a repeat too")
	_, err = f.stream.CreateConsumer(ctx, store.ConsumerOptions{Name: "d", Filter: ">"})
	require.ErrorIs(f.t, err, store.ErrClosed)
	f.requireEnded(f.consumer, leased[0].ID, store.ErrClosed)
}

func closedTwice(f *fixture) {
	require.NoError(f.t, f.store.Close())
	require.NoError(f.t, f.store.Close())
}
