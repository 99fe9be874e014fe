package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var delayTests = []test{
	{promise: "a delayed message is available after the delay, and not before", check: delayEnds, timed: true},
	{promise: "delays of different lengths end in their own time", check: delaysOfDifferentLengths, timed: true},
	{promise: "a delay ends a wait", check: delayEndsAWait, timed: true},
	{promise: "a delayed return does not count as a delivery", check: delayedReturn, timed: true, limits: store.ConsumerLimits{MaxDeliver: 1}},
	{promise: "a delayed nack counts as a delivery", check: delayedNackCounts, timed: true, limits: store.ConsumerLimits{MaxDeliver: 1}},
	{promise: "an id of a delayed message does nothing", check: delayedIDDoesNothing, timed: true},
	{promise: "an id of an ended lease delays nothing", check: endedLeaseIsNotDelayed, timed: true},
	{promise: "delayed messages count toward max_ack_pending", check: delayedCount, timed: true, limits: store.ConsumerLimits{MaxAckPending: 2}},
	{promise: "a delayed message withholds the later ones of its key", check: delayedWithholds, timed: true},
	{promise: "a message that replaces a delayed one is available at once", check: delayedIsReplaced, timed: true, options: onePerKey},
	{promise: "a delayed message can be dropped", check: delayedIsDropped, timed: true, options: store.StreamOptions{RetainUpTo: 1}},
	{promise: "a lowered max_deliver applies when a delay ends", check: delayedIsExhausted, timed: true},
	{promise: "a view shows the delay", check: viewShowsTheDelay, timed: true},
	{promise: "a delay outlives the store", check: delayOutlivesTheStore, timed: true, reopens: true},
}

// delay nacks deliveries with a delay.
func (f *fixture) delay(by time.Duration, all ...store.Delivery) {
	f.t.Helper()
	f.settleLater(store.Nack, by, all...)
}

func (f *fixture) settleLater(how store.Settlement, by time.Duration, all ...store.Delivery) {
	f.t.Helper()
	ids := make([]store.ID, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	require.NoError(f.t, f.consumer.Delay(f.t.Context(), ids, how, by))
}

func delayEnds(f *fixture) {
	f.send("a", "b")
	f.delay(time.Hour, f.receive(1)...) // longer than the lease
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
	time.Sleep(time.Hour - time.Microsecond)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)), "its lease has ended")
	time.Sleep(time.Microsecond)
	again := f.receive(9)
	require.Equal(f.t, []string{"a="}, got(again))
	require.Equal(f.t, 2, again[0].Count)
}

func delaysOfDifferentLengths(f *fixture) {
	f.send("a", "b", "c", "d")
	all := f.receive(9)
	for i, by := range []time.Duration{3 * time.Second, time.Second, 2 * time.Second} {
		f.delay(by, all[i])
	}
	f.ack(all[3])
	for _, want := range []string{"b=", "c=", "a="} {
		require.Empty(f.t, f.receive(9))
		time.Sleep(time.Second)
		require.Equal(f.t, []string{want}, got(f.receive(9)))
	}
}

func delayEndsAWait(f *fixture) {
	f.send("a")
	f.delay(10*time.Second, f.receive(1)...)
	p, began := f.queue(), time.Now()
	<-p.Ready()
	require.Equal(f.t, 10*time.Second, time.Since(began))
	require.Equal(f.t, []string{"a="}, got(f.receiveAt(p, 9)))
}

func delayedReturn(f *fixture) {
	f.send("a")
	for range 3 {
		all := f.receive(9)
		require.Len(f.t, all, 1)
		require.Equal(f.t, 1, all[0].Count)
		f.settleLater(store.Return, time.Second, all...)
		require.Empty(f.t, f.receive(9))
		time.Sleep(time.Second)
	}
}

func delayedNackCounts(f *fixture) {
	f.send("a=1", "a=2")
	f.delay(time.Second, f.receive(9)...)
	require.Equal(f.t, []string{"a=2"}, got(f.receive(9)), "the first is out of deliveries, at once")
}

func delayedIDDoesNothing(f *fixture) {
	f.send("a")
	old := f.receive(1)
	f.delay(time.Second, old...)
	f.ack(old...)
	f.nack(old...)
	f.delay(time.Hour, old...)
	require.Empty(f.t, f.receive(1))
	time.Sleep(time.Second)
	require.Equal(f.t, []string{"a="}, got(f.receive(1)))
}

func endedLeaseIsNotDelayed(f *fixture) {
	f.send("a")
	old := f.receive(1)
	time.Sleep(time.Minute)
	f.delay(time.Hour, old...)
	require.Equal(f.t, []string{"a="}, got(f.receive(1)))
}

func delayedCount(f *fixture) {
	f.send("a", "b", "c")
	f.delay(time.Second, f.receive(9)...)
	require.Empty(f.t, f.receive(9))
	f.update(func(l *store.ConsumerLimits) { l.MaxAckPending = 3 })
	require.Equal(f.t, []string{"c="}, got(f.receive(9)))
	time.Sleep(time.Second)
	require.Equal(f.t, []string{"a=", "b="}, got(f.receive(9)))
}

func delayedWithholds(f *fixture) {
	f.send("a=1", "a=2", "b=1")
	all := f.receive(9)
	f.delay(time.Second, all[0])
	f.ack(all[1])
	require.Empty(f.t, f.receive(9))
	require.Equal(f.t, []string{"a delayed", "a withheld"}, f.peekWords(store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}}))
	time.Sleep(time.Second)
	require.Equal(f.t, []string{"a=1"}, got(f.receive(9)))
}

func delayedIsReplaced(f *fixture) {
	f.send("a=1")
	f.delay(time.Hour, f.receive(9)...)
	f.send("a=2")
	again := f.receive(9)
	require.Equal(f.t, []string{"a=2"}, got(again))
	require.Equal(f.t, 1, again[0].Count)
	f.ack(again...)
	time.Sleep(2 * time.Hour)
	require.Empty(f.t, f.receive(9))
}

func delayedIsDropped(f *fixture) {
	f.send("a=1")
	f.delay(time.Hour, f.receive(9)...)
	f.send("a=2")
	require.Equal(f.t, []string{"a=2"}, got(f.receive(9)))
	require.Len(f.t, f.state().Outstanding, 1)
}

func delayedIsExhausted(f *fixture) {
	f.send("a=1", "a=2")
	f.nack(f.receive(9)...)
	f.delay(time.Second, f.receive(9)...)
	f.update(func(l *store.ConsumerLimits) { l.MaxDeliver = 2 })
	require.Empty(f.t, f.receive(9))
	time.Sleep(time.Second)
	require.Equal(f.t, []string{"a=2"}, got(f.receive(9)))
}

func viewShowsTheDelay(f *fixture) {
	f.send("a", "b")
	f.delay(time.Hour, f.receive(1)...)
	views := f.peek(store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}})
	require.Len(f.t, views, 2)
	v := views[0]
	require.Equal(f.t, []any{store.Delayed, 1, time.Now().Add(time.Hour).UnixMicro(), store.ID{}}, []any{v.State, v.Count, v.NotVisibleUntil, v.ID})
	require.NotZero(f.t, v.LastDeliveredAt)
	_, states, err := f.stream.States(f.t.Context(), "a")
	require.NoError(f.t, err)
	require.Equal(f.t, store.Delayed, states[0].State)
	visible := true
	require.Equal(f.t, []string{"b available"}, f.peekWords(store.PeekQuery{Visible: &visible, ListQuery: store.ListQuery{Limit: 9}}))
	require.Empty(f.t, f.state().Outstanding, "it is on no lease")
	require.Equal(f.t, 1, f.state().Available)
	require.Equal(f.t, 1, f.state().Delayed)
}

func delayOutlivesTheStore(f *fixture) {
	f.send("a", "b")
	all := f.receive(9)
	f.delay(time.Hour, all[0])
	f.settleLater(store.Return, 2*time.Hour, all[1])
	time.Sleep(time.Minute)
	f.reopen()
	f.ack(all...) // the ids of an earlier opening
	require.Empty(f.t, f.receive(9))
	time.Sleep(59*time.Minute - time.Microsecond)
	f.reopen()
	require.Empty(f.t, f.receive(9))
	time.Sleep(time.Microsecond)
	again := f.receive(9)
	require.Equal(f.t, []string{"a="}, got(again))
	require.Equal(f.t, 2, again[0].Count)
	f.ack(again...)
	time.Sleep(time.Hour)
	again = f.receive(9)
	require.Equal(f.t, []string{"b="}, got(again))
	require.Equal(f.t, 1, again[0].Count)
}
