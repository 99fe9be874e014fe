package storetest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/transfer"
)

var copyTests = []test{
	{promise: "a copy has the messages, with seqs, times and gaps", check: copyHasMessages},
	{promise: "a copy has the messages of one per key", check: copyHasMessages, options: onePerKey},
	{promise: "a copy of a stream that was emptied goes on with its seqs", check: copyOfEmptied},
	{promise: "a copy of a stream of one per key that was emptied goes on with its seqs", check: copyOfEmptied, options: onePerKey},
	{promise: "a copy has the options of the stream and of its consumers", check: copyHasOptions, options: store.StreamOptions{MaxBytes: 1 << 40, RetainUpTo: 70, RetainAtLeast: 7}},
	{promise: "acked messages stay acked in a copy, also with holes", check: copyKeepsAcks},
	{promise: "acked messages of one per key stay acked in a copy", check: copyKeepsAcksOfKeys, options: onePerKey},
	{promise: "messages of a key still wait for one another in a copy", check: copyKeepsOrder},
	{promise: "a copy goes on counting deliveries", check: copyKeepsCounts, limits: store.ConsumerLimits{MaxDeliver: 3}},
	{promise: "a copy keeps delays", check: copyKeepsDelays, timed: true},
	{promise: "a copy remembers sends", check: copyRemembers},
	{promise: "a consumer that keeps few waiting messages is copied", check: copyOfMany},
	{promise: "a copy is there after a reopening", check: copyReopens, reopens: true},
	{promise: "a copy of one per key is there after a reopening", check: copyReopens, reopens: true, options: onePerKey},
	{promise: "retention goes on in a copy", check: copyRetains, options: store.StreamOptions{RetainUpTo: 4}},
	{promise: "a copy can be copied", check: copyOfCopy},
	{promise: "a copy has the headers", check: copyHasHeaders},
	{promise: "a copy has the headers of one per key", check: copyHasHeaders, options: onePerKey},
}

// copyable returns the store, and skips the test for one that cannot be copied.
func (f *fixture) copyable() store.Copyable {
	f.t.Helper()
	st, ok := f.store.(store.Copyable)
	if !ok {
		f.t.Skip("the store is not a Copyable one")
	}
	return st
}

// target returns a fixture with an empty store, without a stream.
func (f *fixture) target() *fixture {
	f.t.Helper()
	to := &fixture{t: f.t, cfg: f.cfg, store: f.cfg.Open(f.t)}
	f.t.Cleanup(func() { _ = to.store.Close() })
	return to
}

// copied copies all streams to another store, holds that the copy shows the same, and returns the copy.
func (f *fixture) copied() *fixture {
	f.t.Helper()
	f.copyable()
	to := f.target()
	_, err := transfer.Copy(f.t.Context(), f.store, to.store, transfer.Options{})
	require.NoError(f.t, err)
	to.find()
	f.requireCopied(to)
	return to
}

// find finds the stream and the consumer by name.
func (f *fixture) find() {
	f.t.Helper()
	f.stream = f.findStream("s")
	f.consumer = f.findConsumer(f.stream, "c")
}

// requireCopied holds that another store shows what this one does, but for ids.
func (f *fixture) requireCopied(to *fixture) {
	f.t.Helper()
	want, shown := f.everything(), to.everything()
	for _, e := range []*everything{&want, &shown} {
		e.id, e.info.ID = "", ""
		for i := range e.consumers {
			e.consumers[i].ID, e.consumers[i].StreamID = "", ""
		}
	}
	require.Equal(f.t, want, shown)
}

func copyHasMessages(f *fixture) {
	f.send("a=1", "b=2", "c=3", "d=4")
	f.send("e=5")
	f.send("a=6", "f=7", "g=8")
	f.purge(store.PurgeQuery{Before: 2})
	f.purge(store.PurgeQuery{Pattern: "c"})
	f.purge(store.PurgeQuery{Pattern: "f"})
	to := f.copied()
	require.Equal(f.t, f.stored(), to.stored())
	require.Equal(f.t, reversed(f.stored()), pairs(to.list(store.ListQuery{Limit: 99, Desc: true})))
	to.send("h=9")
	require.Equal(f.t, int64(9), to.list(store.ListQuery{Limit: 1, Desc: true})[0].Seq)
	require.Len(f.t, to.receive(99), len(f.stored())+1)
}

func copyOfEmptied(f *fixture) {
	f.send("a=1", "b=2", "c=3")
	f.ack(f.receive(2)...)
	f.purge(store.PurgeQuery{Pattern: "c"})
	f.purge(store.PurgeQuery{})
	to := f.copied()
	require.Empty(f.t, to.stored())
	to.send("a=4")
	require.Equal(f.t, int64(4), to.list(store.ListQuery{Limit: 1})[0].Seq)
	require.Equal(f.t, []string{"a=4"}, got(to.receive(9)))
}

func copyHasOptions(f *fixture) {
	f.send("a.x=1", "b=2")
	f.createConsumer(f.stream, "d", "a.>", store.ConsumerLimits{AckWait: 7 * time.Second, MaxAckPending: 8, MaxDeliver: 9, MaxWaiting: 10})
	c, err := f.stream.CreateConsumer(f.t.Context(), store.ConsumerOptions{Name: "e", Filter: ">", Start: 2, ConsumerLimits: orDefaults(store.ConsumerLimits{})})
	require.NoError(f.t, err)
	f.update(func(l *store.ConsumerLimits) { l.MaxAckPending = 77 })
	want := need(f, c.Info).Start
	to := f.copied()
	require.Equal(f.t, 77, to.info().MaxAckPending)
	require.Equal(f.t, want, need(f, to.findConsumer(to.stream, "e").Info).Start)
	require.Equal(f.t, []string{"a.x=1"}, got(to.receiveFrom(to.findConsumer(to.stream, "d"), 9)))
}

func copyKeepsAcks(f *fixture) {
	f.send(numbered("k", 9)...)
	out := f.receive(7)
	f.ack(out[0], out[2], out[3], out[5])
	f.nack(out[1])
	to := f.copied()
	require.Equal(f.t, []string{"k1=", "k4=", "k6=", "k7=", "k8="}, got(to.receive(9)), "nacked, on lease twice, and not delivered twice")
	require.Empty(f.t, to.receive(9))
	to.ack(out...)
	require.Len(f.t, to.state().Outstanding, 5, "the ids of the other store mean nothing")
}

func copyKeepsAcksOfKeys(f *fixture) {
	f.send("a=1", "b=1", "c=1", "d=1", "e=1")
	out := f.receive(4)
	f.send("b=2", "c=2")
	f.ack(out[0], out[2])
	f.send("a=2")
	to := f.copied()
	require.Equal(f.t, []string{"d=1", "e=1", "b=2", "c=2", "a=2"}, got(to.receive(9)), "b=1 was on lease and is replaced, d=1 was on lease")
}

func copyKeepsOrder(f *fixture) {
	f.send("a=1", "b=1", "a=2", "b=2", "a=3", "c=1")
	out := f.receive(9)
	require.Equal(f.t, []string{"a=1", "b=1", "c=1"}, got(out))
	f.ack(out[0], out[2])
	to := f.copied()
	first := to.receive(9)
	require.Equal(f.t, []string{"b=1", "a=2"}, got(first))
	to.ack(first...)
	require.Equal(f.t, []string{"b=2", "a=3"}, got(to.receive(9)))
}

func copyKeepsCounts(f *fixture) {
	f.send("a", "b", "c")
	f.nack(f.receive(2)...)
	f.receive(1)
	to := f.copied()
	out := to.receive(9)
	require.Equal(f.t, []string{"a=", "b=", "c="}, got(out))
	require.Equal(f.t, []int{3, 2, 1}, []int{out[0].Count, out[1].Count, out[2].Count})
	to.nack(out...)
	require.Equal(f.t, []string{"b=", "c="}, got(to.receive(9)), "a has had its deliveries")
}

func copyKeepsDelays(f *fixture) {
	f.send("a", "b")
	f.delay(time.Hour, f.receive(1)...)
	to := f.copied()
	require.Equal(f.t, []string{"b="}, got(to.receive(9)))
	require.Equal(f.t, 1, to.state().Delayed)
	time.Sleep(time.Hour + time.Second)
	require.Equal(f.t, []string{"a=", "b="}, got(to.receive(9)))
}

func copyRemembers(f *fixture) {
	once := store.Once{Key: "1", Body: []byte("x")}
	n, err := f.stream.Send(f.t.Context(), once, batch([]string{"a", "b"}))
	require.NoError(f.t, err)
	to := f.copied()
	again, err := to.stream.Send(f.t.Context(), once, batch([]string{"a", "b"}))
	require.NoError(f.t, err)
	require.Equal(f.t, n, again)
	_, err = to.stream.Send(f.t.Context(), store.Once{Key: "1", Body: []byte("y")}, batch([]string{"a"}))
	require.ErrorIs(f.t, err, store.ErrOtherBody)
	require.Equal(f.t, []string{"a=", "b="}, to.stored())
}

// copyOfMany copies a consumer that has more waiting messages than stores of these tests keep.
func copyOfMany(f *fixture) {
	for i := range 30 {
		f.send(fmt.Sprint("a=", i), fmt.Sprint("b=", i))
	}
	out := f.receive(99)
	require.Equal(f.t, []string{"a=0", "b=0"}, got(out))
	f.ack(out[0])
	f = f.copied()
	for i := range 29 {
		out = f.receive(99)
		require.Equal(f.t, []string{fmt.Sprint("b=", i), fmt.Sprint("a=", i+1)}, got(out))
		f.ack(out...)
	}
}

func copyReopens(f *fixture) {
	f.send("a=1", "b=2", "c=3", "a=4", "d=5")
	f.purge(store.PurgeQuery{Pattern: "b"})
	f.ack(f.receive(2)[0])
	to := f.copied()
	for range 3 {
		to.requireSame()
	}
	to.send("x=1")
	to.ack(to.receive(1)...)
	to.requireSame()
}

func copyRetains(f *fixture) {
	f.send("a", "b", "c", "d")
	f.purge(store.PurgeQuery{Pattern: "b"})
	to := f.copied()
	to.send("e")
	require.Equal(f.t, []string{"a=", "c=", "d=", "e="}, to.stored())
	to.send("f")
	require.Equal(f.t, []string{"c=", "d=", "e=", "f="}, to.stored())
}

func copyOfCopy(f *fixture) {
	f.send("a=1", "b=2", "a=3")
	f.ack(f.receive(1)...)
	second := f.copied()
	second.send("c=4")
	third := second.copied()
	require.Equal(f.t, []string{"b=2", "a=3", "c=4"}, got(third.receive(9)))
}

func copyHasHeaders(f *fixture) {
	f.requireHeaders()
	f.sendMessages(withHeaders("a=1", "n", "v"), withHeaders("b=2"), withHeaders("c=3", "x", "y", "z", ""))
	to := f.target()
	_, err := transfer.Copy(f.t.Context(), f.store, struct{ store.Copyable }{to.copyable()}, transfer.Options{})
	require.ErrorIs(f.t, err, transfer.ErrHeaders)
	_, err = transfer.Cancel(f.t.Context(), f.store, nil, transfer.Options{})
	require.NoError(f.t, err)
	to = f.copied()
	if f.streamInfo().OneMessagePerKey {
		require.Zero(f.t, to.sendMessages(withHeaders("a=1", "n", "v")), "it is unchanged")
	}
	require.Equal(f.t, withHeaders("c=3", "x", "y", "z", "").Headers, to.receive(3)[2].Headers)
}
