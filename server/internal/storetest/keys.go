package storetest

import (
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var keyTests = []test{
	{promise: "messages of one key are delivered one after the other", check: oneAfterTheOther},
	{promise: "a nack does not let the next message of its key overtake", check: nackDoesNotOvertake},
	{promise: "the next message of a key comes when the first is out of deliveries", check: nextAfterTheLast, limits: store.ConsumerLimits{MaxDeliver: 1}},
	{promise: "the next message of a key comes when the first is dropped", check: nextAfterADrop, options: store.StreamOptions{RetainUpTo: 2}},
	{promise: "a replaced message on lease withholds the new version", check: replacedOnLease, options: onePerKey},
	{promise: "a replaced message that is not on lease is never delivered", check: replacedIsGone, options: onePerKeyAll},
	{promise: "only the newest of many versions is delivered", check: newestVersion, options: onePerKey},
	{promise: "keys do not hold one another up", check: keysDoNotHoldUp},
	{promise: "a long backlog of one key is delivered in order", check: longBacklogOfAKey},
}

func oneAfterTheOther(f *fixture) {
	f.send("a=1", "a=2", "b=1", "a=3")
	first := f.receive(9)
	require.Equal(f.t, []string{"a=1", "b=1"}, got(first))
	require.Empty(f.t, f.receive(9))
	f.ack(first[1])
	require.Empty(f.t, f.receive(9))
	for _, want := range []string{"a=2", "a=3"} {
		f.ack(first[0])
		first = f.receive(9)
		require.Equal(f.t, []string{want}, got(first))
	}
}

func nackDoesNotOvertake(f *fixture) {
	f.send("a=1", "a=2")
	for _, how := range []store.Settlement{store.Nack, store.Return} {
		first := f.receive(9)
		require.Equal(f.t, []string{"a=1"}, got(first))
		f.settle(how, first...)
	}
	first := f.receive(9)
	require.Equal(f.t, []string{"a=1"}, got(first))
	f.send("a=3")
	f.nack(first...)
	require.Equal(f.t, []string{"a=1"}, got(f.receive(9)))
}

func nextAfterTheLast(f *fixture) {
	f.send("a=1", "a=2")
	f.nack(f.receive(9)...)
	require.Equal(f.t, []string{"a=2"}, got(f.receive(9)))
}

func nextAfterADrop(f *fixture) {
	f.send("a=1", "a=2")
	leased := f.receive(1)
	f.send("a=3") // drops a=1, which is on lease
	second := f.receive(9)
	require.Equal(f.t, []string{"a=2"}, got(second))
	f.nack(leased...)
	require.Empty(f.t, f.receive(9))
	f.nack(second...)
	f.send("b=1") // drops a=2, which is ready
	require.Equal(f.t, []string{"a=3", "b=1"}, got(f.receive(9)))
}

func replacedOnLease(f *fixture) {
	for _, how := range []store.Settlement{store.Ack, store.Nack, store.Return} {
		f.send("a=1")
		leased := f.receive(9)
		require.Equal(f.t, []string{"a=1"}, got(leased))
		f.send("a=2")
		require.Empty(f.t, f.receive(9))
		f.settle(how, leased...)
		leased = f.receive(9)
		require.Equal(f.t, []string{"a=2"}, got(leased), how)
		require.Equal(f.t, 1, leased[0].Count)
		f.ack(leased...)
		require.Empty(f.t, f.receive(9))
	}
}

func replacedIsGone(f *fixture) {
	f.send("a=1")
	f.nack(f.receive(9)...)
	f.send("a=2")
	f.send("b=1")
	f.send("a=3")
	all := f.receive(9)
	require.Equal(f.t, []string{"b=1", "a=3"}, got(all))
	f.nack(all...)
	f.send("a=3")
	require.Equal(f.t, []string{"b=1", "a=3"}, got(f.receive(9)))
}

func newestVersion(f *fixture) {
	f.send("a=first")
	leased := f.receive(9)
	for i := range 100 {
		f.send(fmt.Sprint("a=", i))
	}
	require.Empty(f.t, f.receive(9))
	require.Len(f.t, f.peek(store.PeekQuery{ListQuery: store.ListQuery{Limit: 1_000}}), 1)
	f.ack(leased...)
	leased = f.receive(9)
	require.Equal(f.t, []string{"a=99"}, got(leased))
	f.ack(leased...)
	require.Empty(f.t, f.receive(9))
}

func keysDoNotHoldUp(f *fixture) {
	f.send("hot=0")
	f.receive(1)
	for i := range 500 {
		f.send("hot=1", fmt.Sprint("k", i))
	}
	for i := range 500 {
		all := f.receive(1)
		require.Len(f.t, all, 1)
		require.Equal(f.t, fmt.Sprint("k", i), all[0].Key)
	}
	require.Empty(f.t, f.receive(1))
}

func longBacklogOfAKey(f *fixture) {
	const n = 2_000
	for i := 0; i < n; i += 100 {
		messages := make([]string, 100)
		for j := range messages {
			messages[j] = fmt.Sprint("hot=", i+j)
		}
		f.send(messages...)
	}
	for i := range n {
		all := f.receive(10)
		require.Len(f.t, all, 1)
		require.Equal(f.t, fmt.Sprint(i), all[0].Data)
		f.ack(all...)
	}
	require.Empty(f.t, f.receive(1))
}
