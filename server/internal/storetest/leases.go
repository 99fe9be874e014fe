package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var leaseTests = []test{
	{promise: "an acked message is done", check: ackedIsDone, timed: true},
	{promise: "a nacked message is available at once", check: nackedIsAvailable},
	{promise: "a returned message is available at once, and the delivery does not count", check: returnedDoesNotCount, limits: store.ConsumerLimits{MaxDeliver: 1}},
	{promise: "a message is available again when its lease ends", check: leaseEnds, timed: true},
	{promise: "a lease that has ended before an update ended by the limits of then", check: endedBeforeUpdate, timed: true, limits: store.ConsumerLimits{MaxDeliver: 1}},
	{promise: "a lease that has ended counts as a delivery", check: endedLeaseCounts, timed: true, limits: store.ConsumerLimits{MaxDeliver: 2}},
	{promise: "an id of an ended lease does nothing", check: oldIDDoesNothing, timed: true},
	{promise: "an id settles once", check: idSettlesOnce},
	{promise: "unknown ids and repeated ids are ignored", check: unknownIDs},
	{promise: "a settle of no ids is no error", check: settleOfNothing},
	{promise: "a changed ack_wait leaves the leases that are out", check: changedAckWait, timed: true},
	{promise: "leases of different lengths end in their own time", check: leasesOfDifferentLengths, timed: true},
	{promise: "many leases end at once", check: manyLeasesEnd, timed: true},
}

func ackedIsDone(f *fixture) {
	f.send("a", "b")
	f.ack(f.receive(9)...)
	time.Sleep(time.Hour)
	require.Empty(f.t, f.receive(9))
	require.Equal(f.t, []string{"a=", "b="}, f.stored(), "the stream keeps it")
}

func nackedIsAvailable(f *fixture) {
	f.send("a")
	for count := 1; count < 5; count++ {
		all := f.receive(9)
		require.Len(f.t, all, 1)
		require.Equal(f.t, count, all[0].Count)
		f.nack(all...)
	}
}

func returnedDoesNotCount(f *fixture) {
	f.send("a")
	for range 5 {
		all := f.receive(9)
		require.Len(f.t, all, 1)
		require.Equal(f.t, 1, all[0].Count)
		f.settle(store.Return, all...)
	}
	f.nack(f.receive(9)...)
	require.Empty(f.t, f.receive(9))
}

func leaseEnds(f *fixture) {
	f.send("a", "b")
	first := f.receive(1)
	time.Sleep(20 * time.Second)
	f.receive(1)
	time.Sleep(40*time.Second - time.Microsecond)
	require.Empty(f.t, f.receive(9))
	time.Sleep(time.Microsecond)
	again := f.receive(9)
	require.Equal(f.t, []string{"a="}, got(again))
	require.Equal(f.t, 2, again[0].Count)
	require.NotEqual(f.t, first[0].ID, again[0].ID)
	time.Sleep(20 * time.Second)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
}

func endedLeaseCounts(f *fixture) {
	f.send("a")
	for range 2 {
		require.Len(f.t, f.receive(9), 1)
		time.Sleep(time.Minute)
	}
	require.Empty(f.t, f.receive(9))
}

func endedBeforeUpdate(f *fixture) {
	f.send("a=1", "a=2")
	require.Equal(f.t, []string{"a=1"}, got(f.receive(9)))
	time.Sleep(time.Minute)
	f.update(func(l *store.ConsumerLimits) { l.MaxDeliver = 5 })
	require.Equal(f.t, []string{"a=2"}, got(f.receive(9)), "a=1 was out of deliveries")
}

func oldIDDoesNothing(f *fixture) {
	f.send("a")
	old := f.receive(1)
	time.Sleep(time.Minute)
	f.ack(old...)
	current := f.receive(1)
	require.Len(f.t, current, 1, "an ack after the end of the lease does nothing")
	for _, how := range []store.Settlement{store.Ack, store.Nack, store.Return} {
		f.settle(how, old...)
		require.Empty(f.t, f.receive(1), how)
	}
	require.Len(f.t, f.state().Outstanding, 1)
	f.ack(current...)
	require.Empty(f.t, f.state().Outstanding)
}

func idSettlesOnce(f *fixture) {
	f.send("a", "b")
	all := f.receive(9)
	f.ack(all[0])
	f.nack(all[0])
	f.nack(all[1])
	f.ack(all[1])
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
}

func unknownIDs(f *fixture) {
	f.send("a", "b")
	all := f.receive(9)
	unknown, ok := store.ParseID([]byte("7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"))
	require.True(f.t, ok)
	ids := []store.ID{unknown, all[0].ID, {}, all[0].ID, unknown}
	require.NoError(f.t, f.consumer.Settle(f.t.Context(), ids, store.Nack))
	again := f.receive(9)
	require.Equal(f.t, []string{"a="}, got(again))
	require.Equal(f.t, 2, again[0].Count)
}

func settleOfNothing(f *fixture) {
	require.NoError(f.t, f.consumer.Settle(f.t.Context(), nil, store.Ack))
	f.send("a")
	require.Len(f.t, f.receive(9), 1)
}

func changedAckWait(f *fixture) {
	f.send("a", "b")
	f.receive(1)
	f.update(func(l *store.ConsumerLimits) { l.AckWait = time.Second })
	f.receive(1)
	time.Sleep(time.Second)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
	time.Sleep(59 * time.Second)
	require.Equal(f.t, []string{"a=", "b="}, got(f.receive(9)))
}

func leasesOfDifferentLengths(f *fixture) {
	f.send("a", "b", "c")
	start := time.Now()
	for _, wait := range []time.Duration{3 * time.Hour, time.Hour, 2 * time.Hour} {
		f.update(func(l *store.ConsumerLimits) { l.AckWait = wait })
		require.Len(f.t, f.receive(1), 1)
	}
	f.update(func(l *store.ConsumerLimits) { l.AckWait = 10 * time.Hour })
	var ends []string
	for _, o := range f.state().Outstanding {
		ends = append(ends, o.Key+" "+o.Until.Sub(start).String())
	}
	require.Equal(f.t, []string{"a 3h0m0s", "b 1h0m0s", "c 2h0m0s"}, ends)
	for _, want := range []string{"b=", "c=", "a="} {
		time.Sleep(time.Hour)
		require.Equal(f.t, []string{want}, got(f.receive(9)))
	}
}

func manyLeasesEnd(f *fixture) {
	const n = 3_000
	for i := range 3 {
		f.send(numbered([]string{"a", "b", "c"}[i], n/3)...)
	}
	var first []string
	for range 3 {
		first = append(first, got(f.receive(n/3))...)
	}
	time.Sleep(time.Minute)
	var again []string
	for range 3 {
		all := f.receive(n / 3)
		again = append(again, got(all)...)
		f.ack(all...)
	}
	require.Equal(f.t, first, again, "in the order of their seqs")
	time.Sleep(time.Minute)
	require.Empty(f.t, f.receive(1))
}
