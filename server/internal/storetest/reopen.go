package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var reopenTests = []test{
	{promise: "streams, consumers and messages are there again", check: everythingIsThere, timed: true, reopens: true,
		options: store.StreamOptions{MaxBytes: 1 << 40, RetainUpTo: 70, RetainAtLeast: 7}},
	{promise: "what keeps one message per key is there again", check: keysAreThere, timed: true, reopens: true, options: onePerKey},
	{promise: "what was deleted is not there again", check: deletedStaysDeleted, reopens: true},
	{promise: "acked messages stay acked", check: ackedStaysAcked, timed: true, reopens: true},
	{promise: "a lease goes on and ends at its time", check: leaseGoesOn, timed: true, reopens: true},
	{promise: "an id of a lease that was out settles it", check: oldIDSettles, reopens: true},
	{promise: "deliveries are still counted", check: countsGoOn, reopens: true, limits: store.ConsumerLimits{MaxDeliver: 3}},
	{promise: "messages of a key still wait for one another", check: keysStillWait, reopens: true},
	{promise: "a replaced message on lease still withholds the new version", check: replacedStillWithholds, reopens: true, options: onePerKey},
	{promise: "sends are still remembered", check: sendsAreRemembered, timed: true, reopens: true},
	{promise: "seqs go on", check: seqsGoOnAfterReopening, reopens: true},
	{promise: "a store is opened again many times", check: openedManyTimes, reopens: true},
}

// everything is what a store shows of a stream and its consumers.
type everything struct {
	id        string
	info      store.StreamInfo
	messages  []store.Message
	consumers []store.ConsumerInfo
	views     [][]store.View
}

func (f *fixture) everything() everything {
	f.t.Helper()
	e := everything{id: f.store.ID(), info: f.streamInfo(), messages: f.list(store.ListQuery{Limit: 1 << 30})}
	e.info.InsertedAt, e.info.UpdatedAt = e.info.InsertedAt.UTC().Round(0), e.info.UpdatedAt.UTC().Round(0)
	for _, c := range need(f, f.stream.Consumers) {
		info := need(f, c.Info)
		info.InsertedAt, info.UpdatedAt = info.InsertedAt.UTC().Round(0), info.UpdatedAt.UTC().Round(0)
		views, err := c.Peek(f.t.Context(), store.PeekQuery{ListQuery: store.ListQuery{Limit: 1 << 30}})
		require.NoError(f.t, err)
		e.consumers, e.views = append(e.consumers, info), append(e.views, views)
	}
	return e
}

// requireSame reopens the store and holds that it shows the same.
func (f *fixture) requireSame() {
	f.t.Helper()
	before := f.everything()
	f.reopen()
	require.Equal(f.t, before, f.everything())
}

func everythingIsThere(f *fixture) {
	f.send("a=1", "b=2", "a=3", "c=")
	time.Sleep(time.Second)
	f.createConsumer(f.stream, "d", "a.>", store.ConsumerLimits{AckWait: 7 * time.Second, MaxAckPending: 8, MaxDeliver: 9, MaxWaiting: 10})
	f.update(func(l *store.ConsumerLimits) { l.MaxAckPending = 77 })
	f.createStream(store.StreamOptions{Name: "t"})
	f.receive(2)
	f.requireSame()
	require.Equal(f.t, []string{"t", "s"}, f.streamNames())
	require.Equal(f.t, f.stream.ID(), f.findStream("s").ID())
	f.requireSame()
}

func keysAreThere(f *fixture) {
	f.send("a=1", "b=2", "c=3")
	time.Sleep(time.Second)
	f.send("a=4")
	f.requireSame()
	require.Equal(f.t, 1, f.send("a=4", "b=5"), "a is unchanged")
	require.Equal(f.t, []string{"c=3", "a=4", "b=5"}, f.stored())
	m, err := f.stream.Get(f.t.Context(), "b")
	require.NoError(f.t, err)
	require.Less(f.t, m.InsertedAt, m.UpdatedAt)
	f.requireSame()
	require.Equal(f.t, []string{"c=3", "a=4", "b=5"}, got(f.receive(9)))
}

func deletedStaysDeleted(f *fixture) {
	other := f.createStream(store.StreamOptions{Name: "t"})
	f.createConsumer(other, "d", ">", store.ConsumerLimits{})
	f.createConsumer(f.stream, "e", ">", store.ConsumerLimits{})
	require.NoError(f.t, other.Delete(f.t.Context()))
	require.NoError(f.t, f.findConsumer(f.stream, "e").Delete(f.t.Context()))
	f.reopen()
	require.Equal(f.t, []string{"s"}, f.streamNames())
	require.Equal(f.t, []string{"c"}, f.consumerNames())
	f.createStream(store.StreamOptions{Name: "t"})
}

func ackedStaysAcked(f *fixture) {
	f.send(numbered("k", 10)...)
	all := f.receive(10)
	f.ack(all[0], all[3], all[4], all[9])
	f.nack(all[1])
	f.reopen()
	require.Equal(f.t, []string{"k1="}, got(f.receive(10)))
	time.Sleep(time.Minute)
	require.Equal(f.t, []string{"k1=", "k2=", "k5=", "k6=", "k7=", "k8="}, got(f.receive(10)))
}

func leaseGoesOn(f *fixture) {
	f.send("a", "b")
	f.receive(1)
	time.Sleep(20 * time.Second)
	f.reopen()
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
	time.Sleep(39 * time.Second)
	require.Empty(f.t, f.receive(9))
	f.reopen()
	require.Empty(f.t, f.receive(9))
	p := f.queue()
	<-p.Ready() // the end of the lease calls the place
	require.Equal(f.t, []string{"a="}, got(f.receiveAt(p, 9)))
	time.Sleep(10 * time.Second)
	f.reopen()
	time.Sleep(9 * time.Second)
	require.Empty(f.t, f.receive(9))
	time.Sleep(time.Second)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
}

func oldIDSettles(f *fixture) {
	f.send("a", "b", "c")
	all := f.receive(3)
	f.reopen()
	f.ack(all[0])
	f.nack(all[1])
	f.settle(store.Return, all[2])
	again := f.receive(9)
	require.Equal(f.t, []string{"b=", "c="}, got(again))
	require.Equal(f.t, []int{2, 1}, []int{again[0].Count, again[1].Count})
	f.ack(all[1], all[2])
	require.Len(f.t, f.state().Outstanding, 2, "they are leased again: an old id does nothing")
}

func countsGoOn(f *fixture) {
	f.send("a")
	for count := 1; count < 4; count++ {
		all := f.receive(1)
		require.Len(f.t, all, 1)
		require.Equal(f.t, count, all[0].Count)
		f.nack(all...)
		f.reopen()
	}
	require.Empty(f.t, f.receive(1))
}

func keysStillWait(f *fixture) {
	f.send("a=1", "b=1", "a=2", "b=2")
	f.ack(f.receive(9)[1])
	f.reopen()
	all := f.receive(9)
	require.Equal(f.t, []string{"b=2"}, got(all))
	require.Equal(f.t, []string{"a delivered", "a withheld", "b delivered"}, f.peekWords(store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}}))
}

func replacedStillWithholds(f *fixture) {
	f.send("a=1")
	leased := f.receive(1)
	f.send("a=2")
	f.reopen()
	require.Empty(f.t, f.receive(1))
	f.ack(leased...)
	require.Equal(f.t, []string{"a=2"}, got(f.receive(1)))
}

func sendsAreRemembered(f *fixture) {
	f.requireSent(2, "whole", nil, "a=1", "b=2")
	f.reopen()
	f.requireSent(2, "whole", nil, "a=1", "b=2")
	f.requireSent(1, "part", []string{"whole"}, "b=2")
	_, err := f.sendOnce("whole", nil, "a=9")
	require.ErrorIs(f.t, err, store.ErrOtherBody)
	f.reopen()
	f.requireSent(1, "part", []string{"whole"}, "b=2")
	require.Equal(f.t, []string{"a=1", "b=2"}, f.stored())
	time.Sleep(10*time.Minute + time.Second)
	f.reopen()
	f.requireSent(1, "whole", nil, "c=3")
}

func seqsGoOnAfterReopening(f *fixture) {
	f.send("a", "b")
	f.reopen()
	f.send("c")
	require.Equal(f.t, []int64{1, 2, 3}, seqs(f.list(store.ListQuery{Limit: 9})))
}

func openedManyTimes(f *fixture) {
	var want []string
	for _, key := range numbered("k", 10) {
		f.send(key)
		want = append(want, key+"=")
		f.reopen()
		f.reopen()
	}
	require.Equal(f.t, want, f.stored())
	require.Equal(f.t, want, got(f.receive(100)))
}
