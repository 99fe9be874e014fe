package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var extendTests = []test{
	{promise: "an extended lease ends the time from then", check: extendedEnds, timed: true},
	{promise: "an extension never shortens a lease", check: extensionNeverShortens, timed: true},
	{promise: "leases can be extended again and again, each by its own time", check: extendedAgain, timed: true},
	{promise: "the end of an extended lease ends a wait", check: extendedEndsAWait, timed: true},
	{promise: "a lease that ends by itself is counted as expired, unless it was extended", check: endedIsExpired, timed: true},
	{promise: "an extension returns the ids whose leases are out", check: extendedIDs, timed: true},
	{promise: "an extended delivery can be settled", check: extendedIsSettled, timed: true},
	{promise: "an extended lease counts toward max_ack_pending", check: extendedCounts, timed: true, limits: store.ConsumerLimits{MaxAckPending: 1}},
	{promise: "a replaced message withholds the new one until its extended lease ends", check: extendedIsReplaced, timed: true, options: onePerKey},
	{promise: "an extended message can be dropped", check: extendedIsDropped, timed: true, options: store.StreamOptions{RetainUpTo: 1}},
	{promise: "an extension outlives the store", check: extensionOutlivesTheStore, timed: true, reopens: true},
	{promise: "how many leases have expired outlives the store", check: expiredCountsGoOn, timed: true, reopens: true},
}

// extend extends leases, and returns how many of them were out.
func (f *fixture) extend(wait time.Duration, all ...store.Delivery) int {
	f.t.Helper()
	ids := make([]store.ID, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	extended, err := f.consumer.Extend(f.t.Context(), ids, wait)
	require.NoError(f.t, err)
	return len(extended)
}

func extendedEnds(f *fixture) {
	f.send("a", "b")
	all := f.receive(9)
	time.Sleep(30 * time.Second)
	require.Equal(f.t, 1, f.extend(time.Hour, all[0]))
	time.Sleep(30 * time.Second)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
	state := f.state()
	require.Len(f.t, state.Outstanding, 2)
	require.Equal(f.t, 59*time.Minute+30*time.Second, time.Until(state.Outstanding[0].Until).Round(time.Microsecond))
	require.Equal(f.t, time.Minute, time.Since(state.Outstanding[0].At).Round(time.Microsecond), "it began when it was delivered")
	time.Sleep(59*time.Minute + 30*time.Second - time.Microsecond)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
	time.Sleep(time.Microsecond)
	again := f.receive(9)
	require.Equal(f.t, []string{"a="}, got(again))
	require.Equal(f.t, 2, again[0].Count)
}

func extensionNeverShortens(f *fixture) {
	f.send("a")
	all := f.receive(9)
	require.Equal(f.t, 1, f.extend(time.Second, all...), "it is out all the same")
	time.Sleep(time.Minute - time.Microsecond)
	require.Empty(f.t, f.receive(9))
	time.Sleep(time.Microsecond)
	require.Len(f.t, f.receive(9), 1)
}

func extendedAgain(f *fixture) {
	f.send("a", "b", "c")
	all := f.receive(9)
	for range 10 {
		time.Sleep(50 * time.Second)
		for i := range all {
			require.Equal(f.t, 1, f.extend(time.Duration(3-i)*time.Minute, all[i]))
		}
	}
	for _, want := range []string{"c=", "b=", "a="} {
		require.Empty(f.t, f.receive(9))
		time.Sleep(time.Minute)
		now := f.receive(9)
		require.Equal(f.t, []string{want}, got(now))
		f.ack(now...)
	}
}

func extendedEndsAWait(f *fixture) {
	f.send("a")
	f.extend(2*time.Minute, f.receive(1)...)
	p, began := f.queue(), time.Now()
	<-p.Ready()
	require.Equal(f.t, 2*time.Minute, time.Since(began).Round(time.Microsecond))
	require.Equal(f.t, []string{"a="}, got(f.receiveAt(p, 9)))
}

// endedIsExpired gives a message all kinds of ends of a lease, one after the other.
func endedIsExpired(f *fixture) {
	f.send("a")
	for _, row := range []struct {
		count, expired int // of the delivery
		end            func(all []store.Delivery)
	}{
		{1, 0, func([]store.Delivery) { time.Sleep(time.Hour) }},
		{2, 1, func(all []store.Delivery) { f.extend(time.Second, all...); time.Sleep(time.Hour) }},
		{3, 1, func(all []store.Delivery) { f.extend(time.Hour, all...); time.Sleep(time.Hour) }},
		{4, 1, func(all []store.Delivery) { f.nack(all...) }},
		{5, 1, func(all []store.Delivery) { f.settle(store.Return, all...) }},
		{5, 1, func(all []store.Delivery) { f.delay(time.Hour, all...); time.Sleep(time.Hour) }},
		{6, 1, func([]store.Delivery) { time.Sleep(time.Hour) }},
		{7, 2, func(all []store.Delivery) { f.ack(all...) }},
	} {
		all := f.receive(9)
		require.Len(f.t, all, 1)
		require.Equal(f.t, []int{row.count, row.expired}, []int{all[0].Count, all[0].Expired})
		row.end(all)
	}
}

func extendedIDs(f *fixture) {
	f.send("a", "b", "c", "d", "e")
	all := f.receive(5)
	f.ack(all[0])
	f.nack(all[1])
	f.delay(time.Hour, all[2])
	ids := []store.ID{{}, all[4].ID, all[0].ID, all[1].ID, all[2].ID, all[3].ID}
	extended, err := f.consumer.Extend(f.t.Context(), ids, time.Hour)
	require.NoError(f.t, err)
	require.Equal(f.t, []store.ID{all[4].ID, all[3].ID}, extended)
	time.Sleep(time.Hour)
	require.Zero(f.t, f.extend(time.Hour, all...), "their leases have ended")
	require.Len(f.t, f.receive(9), 4)
}

func extendedIsSettled(f *fixture) {
	f.send("a", "b")
	all := f.receive(9)
	f.extend(time.Hour, all...)
	time.Sleep(2 * time.Minute)
	f.ack(all[0])
	f.nack(all[1])
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
	time.Sleep(time.Minute)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)), "the next lease has the length of ack_wait")
}

func extendedCounts(f *fixture) {
	f.send("a", "b")
	all := f.receive(9)
	f.extend(time.Hour, all...)
	require.Empty(f.t, f.receive(9))
	f.ack(all...)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
}

func extendedIsReplaced(f *fixture) {
	f.send("a=1")
	f.extend(time.Hour, f.receive(9)...)
	f.send("a=2")
	time.Sleep(time.Hour - time.Microsecond)
	require.Empty(f.t, f.receive(9))
	time.Sleep(time.Microsecond)
	require.Equal(f.t, []string{"a=2"}, got(f.receive(9)))
}

func extendedIsDropped(f *fixture) {
	f.send("a=1")
	old := f.receive(9)
	f.extend(time.Hour, old...)
	f.send("a=2")
	require.Equal(f.t, []string{"a=2"}, got(f.receive(9)))
	require.Zero(f.t, f.extend(time.Hour, old...))
}

func extensionOutlivesTheStore(f *fixture) {
	f.send("a")
	all := f.receive(9)
	f.extend(time.Hour, all...)
	f.reopen()
	time.Sleep(30 * time.Minute)
	require.Empty(f.t, f.receive(9))
	require.Equal(f.t, 1, f.extend(time.Hour, all...), "an id of an earlier opening")
	f.reopen()
	time.Sleep(time.Hour - time.Microsecond)
	require.Empty(f.t, f.receive(9))
	time.Sleep(time.Microsecond)
	require.Len(f.t, f.receive(9), 1)
}

// expiredCountsGoOn reopens the store with a lease that has been extended, with one that has not, and after each has ended.
func expiredCountsGoOn(f *fixture) {
	f.send("a", "b")
	all := f.receive(9)
	f.extend(time.Second, all[0])
	f.reopen()
	time.Sleep(time.Hour)
	again := f.receive(9)
	require.Equal(f.t, []int{0, 1}, []int{again[0].Expired, again[1].Expired})
	f.nack(again...)
	f.reopen()
	again = f.receive(9)
	require.Equal(f.t, []int{0, 1}, []int{again[0].Expired, again[1].Expired})
	f.reopen()
	time.Sleep(time.Hour)
	again = f.receive(9)
	require.Equal(f.t, []int{1, 2}, []int{again[0].Expired, again[1].Expired})
	require.Equal(f.t, []int{4, 4}, []int{again[0].Count, again[1].Count})
}
