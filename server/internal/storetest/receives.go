package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var receiveTests = []test{
	{promise: "messages are delivered in the order of their seqs", check: deliveredInOrder},
	{promise: "a receive gets at most what it asks for", check: atMostWhatIsAsked},
	{promise: "a receive appends to what it is given", check: receiveAppends},
	{promise: "a receive that gets nothing is no error", check: receiveGetsNothing},
	{promise: "a delivery shows its message, its count and its time", check: deliveryShowsItself, timed: true},
	{promise: "each delivery has an ack id of its own", check: freshIDs},
	{promise: "messages that came back are delivered before new ones", check: returnedComeFirst},
	{promise: "max_ack_pending limits what is on lease", check: maxAckPending, limits: store.ConsumerLimits{MaxAckPending: 3}},
	{promise: "a lowered max_ack_pending waits for the leases that are out", check: loweredMaxAckPending},
	{promise: "max_deliver limits the deliveries of a version", check: maxDeliver, limits: store.ConsumerLimits{MaxDeliver: 2}},
	{promise: "a replacement starts at no deliveries", check: replacementStartsAnew, options: onePerKey, limits: store.ConsumerLimits{MaxDeliver: 2}},
	{promise: "a lowered max_deliver ends ready messages at once", check: loweredMaxDeliver},
}

func deliveredInOrder(f *fixture) {
	f.send("c", "a")
	f.send("b", "a.b")
	var all []string
	for _, n := range []int{1, 2, 5} {
		all = append(all, got(f.receive(n))...)
	}
	require.Equal(f.t, []string{"c=", "a=", "b=", "a.b="}, all)
}

func atMostWhatIsAsked(f *fixture) {
	f.send(numbered("k", 10)...)
	require.Len(f.t, f.receive(1), 1)
	require.Len(f.t, f.receive(4), 4)
	require.Len(f.t, f.receive(1_000), 5)
	require.Empty(f.t, f.receive(1_000))
}

func receiveAppends(f *fixture) {
	f.send("a", "b")
	dst, err := f.consumer.Receive(f.t.Context(), 1, make([]store.Delivery, 0, 8))
	require.NoError(f.t, err)
	dst, err = f.consumer.Receive(f.t.Context(), 1, dst)
	require.NoError(f.t, err)
	require.Equal(f.t, []string{"a=", "b="}, got(dst))
	dst, err = f.consumer.Receive(f.t.Context(), 1, dst)
	require.NoError(f.t, err)
	require.Len(f.t, dst, 2)
}

func receiveGetsNothing(f *fixture) {
	require.Empty(f.t, f.receive(10))
	f.send("a")
	f.receive(1)
	require.Empty(f.t, f.receive(10))
	f.update(func(l *store.ConsumerLimits) { l.MaxAckPending = 1 })
	f.send("b")
	require.Empty(f.t, f.receive(10))
}

func deliveryShowsItself(f *fixture) {
	sent := time.Now().UnixMicro()
	f.send("a=1")
	for count := 1; count < 4; count++ {
		time.Sleep(time.Second)
		all := f.receive(9)
		require.Len(f.t, all, 1)
		require.True(f.t, time.Now().Equal(all[0].At))
		require.Equal(f.t, store.Message{Key: "a", Data: "1", Seq: 1, InsertedAt: sent, UpdatedAt: sent}, all[0].Message)
		require.Equal(f.t, count, all[0].Count)
		f.nack(all...)
	}
}

func freshIDs(f *fixture) {
	f.send(numbered("k", 100)...)
	seen := map[store.ID]bool{}
	for range 3 {
		all := f.receive(100)
		require.Len(f.t, all, 100)
		for _, d := range all {
			parsed, ok := store.ParseID([]byte(d.ID.String()))
			require.True(f.t, ok, "%s is a UUID of version 4", d.ID)
			require.Equal(f.t, d.ID, parsed)
			require.False(f.t, seen[d.ID])
			seen[d.ID] = true
		}
		f.nack(all...)
	}
}

func returnedComeFirst(f *fixture) {
	f.send("a", "b", "c", "d", "e")
	first := f.receive(3)
	f.nack(first[2])
	f.nack(first[0])
	require.Equal(f.t, []string{"a=", "c=", "d="}, got(f.receive(3)))
}

func maxAckPending(f *fixture) {
	f.send(numbered("k", 5)...)
	all := f.receive(9)
	require.Len(f.t, all, 3)
	require.Empty(f.t, f.receive(9))
	f.ack(all[1])
	require.Equal(f.t, []string{"k3="}, got(f.receive(9)))
	f.nack(all[0])
	require.Equal(f.t, []string{"k0="}, got(f.receive(9)))
	f.update(func(l *store.ConsumerLimits) { l.MaxAckPending = 4 })
	require.Equal(f.t, []string{"k4="}, got(f.receive(9)))
}

func loweredMaxAckPending(f *fixture) {
	f.send(numbered("k", 5)...)
	all := f.receive(4)
	f.update(func(l *store.ConsumerLimits) { l.MaxAckPending = 2 })
	f.ack(all[0], all[1])
	require.Empty(f.t, f.receive(9))
	f.ack(all[2])
	require.Equal(f.t, []string{"k4="}, got(f.receive(9)))
}

func maxDeliver(f *fixture) {
	f.send("a=1", "a=2", "b=1")
	for range 2 {
		all := f.receive(9)
		require.Equal(f.t, []string{"a=1", "b=1"}, got(all))
		f.nack(all...)
	}
	all := f.receive(9)
	require.Equal(f.t, []string{"a=2"}, got(all), "a=1 and b=1 are out of deliveries")
	require.Equal(f.t, 1, all[0].Count)
	_, views, err := f.stream.States(f.t.Context(), "b")
	require.NoError(f.t, err)
	require.Equal(f.t, store.Acked, views[0].State)
	require.Equal(f.t, []string{"a=1", "a=2", "b=1"}, f.stored(), "the stream keeps them")
}

func replacementStartsAnew(f *fixture) {
	f.send("a=1")
	f.nack(f.receive(1)...)
	f.send("a=2")
	for count := 1; count < 3; count++ {
		all := f.receive(9)
		require.Len(f.t, all, 1)
		require.Equal(f.t, count, all[0].Count)
		f.nack(all...)
	}
	require.Empty(f.t, f.receive(9))
}

func loweredMaxDeliver(f *fixture) {
	f.send("a=1", "a=2", "b=1", "c=1")
	for range 3 {
		f.nack(f.receive(2)...) // a=1 and b=1
	}
	leased := f.receive(1)
	require.Equal(f.t, []string{"a=1"}, got(leased))
	f.update(func(l *store.ConsumerLimits) { l.MaxDeliver = 2 })
	require.Equal(f.t, []string{"c=1"}, got(f.receive(9)), "b=1 is out of deliveries")
	f.nack(leased...)
	require.Equal(f.t, []string{"a=2"}, got(f.receive(9)), "a=1 is, when its lease ends")
}
