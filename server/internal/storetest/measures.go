package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var measureTests = []test{
	{promise: "a measure counts what is not settled", check: measureCounts},
	{promise: "a measure counts a replaced message once", check: measureOfReplaced, options: onePerKey},
	{promise: "a measure finds the oldest message", check: measureOfTheOldest},
	{promise: "a measure counts delays and waiting receives", check: measureOfDelays},
	{promise: "a measure estimates what a filter leaves out", check: measureOfAFilter},
	{promise: "a measure of a deleted consumer fails", check: measureOfTheDeleted},
}

func (f *fixture) measure(c store.Consumer) store.Measure {
	f.t.Helper()
	measured, ok := c.(store.Measured)
	require.True(f.t, ok, "%T is no store.Measured", c)
	return need(f, measured.Measure)
}

// counts of a measure: all messages, those on lease, and those that are delayed.
func counts(m store.Measure) [3]int { return [3]int{m.Backlog, m.Outstanding, m.Delayed} }

func measureCounts(f *fixture) {
	require.Equal(f.t, store.Measure{}, f.measure(f.consumer))
	f.send("a", "b", "a", "c", "d")
	require.Equal(f.t, [3]int{5, 0, 0}, counts(f.measure(f.consumer)))
	first := f.receive(2) // a and b; the second a waits
	require.Equal(f.t, [3]int{5, 2, 0}, counts(f.measure(f.consumer)))
	f.receive(1) // c
	require.Equal(f.t, [3]int{5, 3, 0}, counts(f.measure(f.consumer)))
	f.ack(first[1])
	require.Equal(f.t, [3]int{4, 2, 0}, counts(f.measure(f.consumer)))
	f.nack(first[0])
	require.Equal(f.t, [3]int{4, 1, 0}, counts(f.measure(f.consumer)))
	_, err := f.extended().Purge(f.t.Context(), store.PurgeQuery{Pattern: "a"})
	require.NoError(f.t, err)
	require.Equal(f.t, [3]int{2, 1, 0}, counts(f.measure(f.consumer)), "c and d")
	require.False(f.t, f.measure(f.consumer).Estimated)
}

func measureOfReplaced(f *fixture) {
	f.send("a=1", "b=1")
	f.receive(1)
	f.send("a=2")
	f.receive(9) // b; a=2 waits for the lease of a=1
	m := f.measure(f.consumer)
	require.Equal(f.t, [3]int{2, 2, 0}, counts(m), "a=2 and b, and the lease of a=1")
	require.False(f.t, m.Estimated)
	require.Equal(f.t, f.peek(store.PeekQuery{ListQuery: store.ListQuery{Limit: 1}})[0].Message.UpdatedAt, m.OldestAt)
}

func measureOfTheOldest(f *fixture) {
	f.send("a")
	f.send("b")
	f.send("c")
	stored := f.list(store.ListQuery{Limit: 9})
	require.Equal(f.t, stored[0].UpdatedAt, f.measure(f.consumer).OldestAt, "unread")
	all := f.receive(2)
	require.Equal(f.t, stored[0].UpdatedAt, f.measure(f.consumer).OldestAt, "on lease")
	f.ack(all[0])
	require.Equal(f.t, stored[1].UpdatedAt, f.measure(f.consumer).OldestAt)
	f.nack(all[1])
	require.Equal(f.t, stored[1].UpdatedAt, f.measure(f.consumer).OldestAt, "available again")
	f.ack(f.receive(9)...)
	require.Zero(f.t, f.measure(f.consumer).OldestAt)
}

func measureOfDelays(f *fixture) {
	f.send("a", "b")
	ids := idsOf(f.receive(2))
	require.NoError(f.t, f.consumer.Delay(f.t.Context(), ids[:1], store.Nack, time.Hour))
	place, err := f.consumer.Queue(f.t.Context())
	require.NoError(f.t, err)
	m := f.measure(f.consumer)
	require.Equal(f.t, [3]int{2, 1, 1}, counts(m))
	require.Equal(f.t, 1, m.Waiting)
	place.Leave()
	require.Zero(f.t, f.measure(f.consumer).Waiting)
}

// measureOfAFilter has one message in four that the consumer gets. Nothing is known of it before it has read some.
func measureOfAFilter(f *fixture) {
	c := f.createConsumer(f.stream, "filtered", "a.*", store.ConsumerLimits{})
	for range 25 {
		f.send("a.1", "b.1", "b.2", "b.3")
	}
	for i := range 25 {
		got := f.receiveFrom(c, 1)
		require.Len(f.t, got, 1)
		require.NoError(f.t, c.Settle(f.t.Context(), idsOf(got), store.Ack))
		m, left := f.measure(c), len(f.peekOf(c))
		if !m.Estimated {
			require.Equal(f.t, left, m.Backlog)
		}
		if i >= 4 { // the first estimates are of few messages
			require.InDelta(f.t, left, m.Backlog, 8)
		}
	}
	f.send("b.9", "b.10")
	require.Empty(f.t, f.receiveFrom(c, 1))
	require.Equal(f.t, store.Measure{}, f.measure(c), "what the filter leaves out is no backlog once it is read")
}

func idsOf(all []store.Delivery) []store.ID {
	ids := make([]store.ID, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	return ids
}

func (f *fixture) peekOf(c store.Consumer) []store.View {
	f.t.Helper()
	views, err := c.Peek(f.t.Context(), store.PeekQuery{ListQuery: store.ListQuery{Limit: 1000}})
	require.NoError(f.t, err)
	return views
}

func measureOfTheDeleted(f *fixture) {
	require.NoError(f.t, f.consumer.Delete(f.t.Context()))
	_, err := f.consumer.(store.Measured).Measure(f.t.Context())
	require.ErrorIs(f.t, err, store.ErrNoConsumer)
}
