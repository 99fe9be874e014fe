package storetest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var purgeTests = []test{
	{promise: "a purge removes all messages", check: purgeAll},
	{promise: "a purge removes all messages of one per key", check: purgeAll, options: onePerKey},
	{promise: "a purge removes the messages below a seq", check: purgeBelow},
	{promise: "a purge removes the messages below a seq of one per key", check: purgeBelow, options: onePerKey},
	{promise: "a purge removes the messages whose key matches", check: purgePattern},
	{promise: "a purge removes the messages whose key matches of one per key", check: purgePattern, options: onePerKey},
	{promise: "a purge that finds nothing changes nothing", check: purgeNothing},
	{promise: "a purged message is not delivered, and its lease ends", check: purgeLeased, timed: true, limits: store.ConsumerLimits{MaxAckPending: 2}},
	{promise: "a purge leaves the lease of a message that was replaced", check: purgeReplaced, timed: true, options: onePerKey},
	{promise: "a purge ends delays", check: purgeDelayed, timed: true, limits: store.ConsumerLimits{MaxAckPending: 1}},
	{promise: "a message that waits for a purged one is available", check: purgeReleases},
	{promise: "a purge ends a wait for a message behind it", check: purgeWakes},
	{promise: "a purged key starts anew", check: purgedKeyStartsAnew, options: onePerKey},
	{promise: "retention counts what a purge has left", check: purgeAndRetention, options: store.StreamOptions{RetainUpTo: 4}},
	{promise: "a repeat of a send restores nothing that was purged", check: purgeAndRepeat},
	{promise: "purged messages stay away after a reopening", check: purgeReopened, reopens: true},
	{promise: "purged messages of one per key stay away after a reopening", check: purgeReopened, reopens: true, options: onePerKey},
	{promise: "a stream that is deleted is not purged", check: purgeDeleted},
}

// extended returns the stream of an Extended store, and skips the test for another one.
func (f *fixture) extended() store.ExtendedStream {
	f.t.Helper()
	if !f.isExtended() {
		f.t.Skip("the store is not an Extended one")
	}
	return f.stream.(store.ExtendedStream)
}

func (f *fixture) isExtended() bool {
	_, ok := f.store.(store.Extended)
	return ok
}

func (f *fixture) purge(q store.PurgeQuery) int {
	f.t.Helper()
	n, err := f.extended().Purge(f.t.Context(), q)
	require.NoError(f.t, err)
	return n
}

func purgeAll(f *fixture) {
	f.send("a", "b", "c")
	require.Equal(f.t, 3, f.purge(store.PurgeQuery{}))
	require.Empty(f.t, f.stored())
	info := f.streamInfo()
	require.Zero(f.t, info.Messages)
	require.Zero(f.t, info.Bytes)
	require.Empty(f.t, f.receive(9))
	f.send("d")
	all := f.list(store.ListQuery{Limit: 9})
	require.Len(f.t, all, 1)
	require.EqualValues(f.t, 4, all[0].Seq, "seqs are not used again")
	require.Equal(f.t, []string{"d="}, got(f.receive(9)))
}

func purgeBelow(f *fixture) {
	f.send("a=1", "b=2", "c=3", "d=4")
	require.Equal(f.t, 2, f.purge(store.PurgeQuery{Before: 3}))
	require.Equal(f.t, []string{"c=3", "d=4"}, f.stored())
	require.Zero(f.t, f.purge(store.PurgeQuery{Before: 3}))
	info := f.streamInfo()
	require.Equal(f.t, []any{2, int64(4)}, []any{info.Messages, info.Bytes})
	require.Equal(f.t, []string{"c=3", "d=4"}, got(f.receive(9)))
	f.send("e=5")
	f.send("f=6", "g=7")
	require.Equal(f.t, 4, f.purge(store.PurgeQuery{Before: 7}), "of several sends")
	info = f.streamInfo()
	require.Equal(f.t, []any{1, int64(2)}, []any{info.Messages, info.Bytes})
	require.Equal(f.t, 1, f.purge(store.PurgeQuery{Before: 1 << 40}))
	require.Empty(f.t, f.stored())
}

func purgePattern(f *fixture) {
	for i := range 20 {
		f.send(fmt.Sprint("a.", i), fmt.Sprint("b.", i))
	}
	require.Equal(f.t, 10, f.purge(store.PurgeQuery{Pattern: "a.*", Before: 20}), "the seqs 1, 3 up to 19")
	require.Equal(f.t, 1, f.purge(store.PurgeQuery{Pattern: "b.19"}), "the newest")
	var want []string
	for i := range 20 {
		if i >= 10 {
			want = append(want, fmt.Sprint("a.", i, "="))
		}
		if i < 19 {
			want = append(want, fmt.Sprint("b.", i, "="))
		}
	}
	require.Equal(f.t, want, f.stored())
	require.Equal(f.t, reversed(want), pairs(f.list(store.ListQuery{Limit: 99, Desc: true})))
	require.Equal(f.t, want[3:7], pairs(f.list(store.ListQuery{Limit: 4, After: f.list(store.ListQuery{Limit: 3})[2].Seq})))
	require.Equal(f.t, len(want), f.streamInfo().Messages)
	_, err := f.stream.Get(f.t.Context(), "a.3")
	require.ErrorIs(f.t, err, store.ErrNoMessage)
	require.Equal(f.t, want, got(f.receive(99)))
}

func purgeNothing(f *fixture) {
	require.Zero(f.t, f.purge(store.PurgeQuery{}))
	f.send("a", "b")
	require.Zero(f.t, f.purge(store.PurgeQuery{Pattern: "c.>"}))
	require.Zero(f.t, f.purge(store.PurgeQuery{Before: 1}))
	require.Equal(f.t, []string{"a=", "b="}, f.stored())
}

func purgeLeased(f *fixture) {
	f.send("a", "b", "c", "d")
	out := f.receive(9)
	require.Equal(f.t, []string{"a=", "b="}, got(out))
	require.Equal(f.t, 1, f.purge(store.PurgeQuery{Pattern: "a"}))
	require.Len(f.t, f.state().Outstanding, 1)
	require.Equal(f.t, []string{"c="}, got(f.receive(9)), "the lease of a takes no room")
	f.nack(out[0]) // does nothing
	extended, err := f.consumer.Extend(f.t.Context(), []store.ID{out[0].ID, out[1].ID}, time.Hour)
	require.NoError(f.t, err)
	require.Equal(f.t, []store.ID{out[1].ID}, extended, "the lease of a is lost")
	f.ack(out[1])
	require.Equal(f.t, []string{"d="}, got(f.receive(9)))
}

func purgeReplaced(f *fixture) {
	f.extended()
	f.send("k=1")
	out := f.receive(1)
	f.send("k=2")
	require.Equal(f.t, 1, f.purge(store.PurgeQuery{Pattern: ">", Before: 9}))
	require.Len(f.t, f.state().Outstanding, 1)
	f.send("k=3")
	require.Empty(f.t, f.receive(9), "the key is on lease")
	f.ack(out...)
	require.Equal(f.t, []string{"k=3"}, got(f.receive(9)))
}

func purgeDelayed(f *fixture) {
	f.send("a", "b")
	f.delay(time.Hour, f.receive(1)...)
	require.Empty(f.t, f.receive(9))
	require.Equal(f.t, 1, f.purge(store.PurgeQuery{Pattern: "a"}))
	require.Zero(f.t, f.state().Delayed)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
	time.Sleep(2 * time.Hour)
	require.Equal(f.t, []string{"b="}, got(f.receive(9)))
}

func purgeReleases(f *fixture) {
	f.send("k=1", "k=2", "k=3")
	require.Equal(f.t, []string{"k=1"}, got(f.receive(9)))
	require.Empty(f.t, f.receive(9), "the others wait")
	require.Equal(f.t, 2, f.purge(store.PurgeQuery{Before: 3}))
	require.Equal(f.t, []string{"k=3"}, got(f.receive(9)))
}

func purgeWakes(f *fixture) {
	f.send("k=1", "k=2")
	f.receive(1)
	place, err := f.consumer.Queue(f.t.Context())
	require.NoError(f.t, err)
	defer place.Leave()
	f.purge(store.PurgeQuery{Before: 2})
	<-place.Ready()
	got2, err := place.Receive(f.t.Context(), 1, nil)
	require.NoError(f.t, err)
	require.Equal(f.t, []string{"k=2"}, got(got2))
}

func purgedKeyStartsAnew(f *fixture) {
	f.send("k=1")
	f.send("k=2", "l=1")
	f.purge(store.PurgeQuery{Pattern: "k"})
	_, err := f.stream.Get(f.t.Context(), "k")
	require.ErrorIs(f.t, err, store.ErrNoMessage)
	require.Equal(f.t, 1, f.send("k=2"), "the same data is a change")
	m, err := f.stream.Get(f.t.Context(), "k")
	require.NoError(f.t, err)
	require.Equal(f.t, m.UpdatedAt, m.InsertedAt)
	require.Equal(f.t, []string{"l=1", "k=2"}, got(f.receive(9)))
}

func purgeAndRetention(f *fixture) {
	f.send("a", "b", "a", "d")
	require.Equal(f.t, 2, f.purge(store.PurgeQuery{Pattern: "a"}))
	f.send("e", "f")
	require.Equal(f.t, []string{"b=", "d=", "e=", "f="}, f.stored())
	f.send("g")
	require.Equal(f.t, []string{"d=", "e=", "f=", "g="}, f.stored())
	require.Equal(f.t, 4, f.streamInfo().Messages)
}

func purgeAndRepeat(f *fixture) {
	once := store.Once{Key: "1", Body: []byte("x")}
	for range 2 {
		n, err := f.stream.Send(f.t.Context(), once, batch([]string{"a"}))
		require.NoError(f.t, err)
		require.Equal(f.t, 1, n)
		f.purge(store.PurgeQuery{})
		require.Empty(f.t, f.stored())
	}
}

func purgeReopened(f *fixture) {
	for i := range 30 {
		f.send(fmt.Sprint("a.", i%3, "=", i), fmt.Sprint("b.", i%3, "=", i))
	}
	f.purge(store.PurgeQuery{Pattern: "a.1"})
	f.purge(store.PurgeQuery{Before: 5})
	want, info := f.stored(), f.streamInfo()
	for range 3 {
		f.reopen()
		require.Equal(f.t, want, f.stored())
		require.Equal(f.t, []any{info.Messages, info.Bytes}, []any{f.streamInfo().Messages, f.streamInfo().Bytes})
	}
	f.purge(store.PurgeQuery{})
	f.reopen()
	require.Empty(f.t, f.stored())
	require.Empty(f.t, f.receive(9))
}

func purgeDeleted(f *fixture) {
	f.extended()
	f.send("a")
	require.NoError(f.t, f.stream.Delete(f.t.Context()))
	_, err := f.extended().Purge(f.t.Context(), store.PurgeQuery{})
	require.ErrorIs(f.t, err, store.ErrNoStream)
}
