package storetest

import (
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var retentionTests = []test{
	{promise: "the newest messages stay", check: newestStay, options: store.StreamOptions{RetainUpTo: 3}},
	{promise: "the newest keys stay", check: newestKeysStay, options: store.StreamOptions{OneMessagePerKey: true, RetainUpTo: 3}},
	{promise: "a batch may have more messages than are kept", check: batchLargerThanRetention, options: store.StreamOptions{RetainUpTo: 2}},
	{promise: "a batch may have more keys than are kept", check: batchOfMoreKeys, options: store.StreamOptions{OneMessagePerKey: true, RetainUpTo: 2}},
	{promise: "the oldest messages make room", check: oldestMakeRoom, options: store.StreamOptions{MaxBytes: 6}},
	{promise: "a replaced message makes room", check: replacedMakesRoom, options: store.StreamOptions{OneMessagePerKey: true, MaxBytes: 6, RetainAtLeast: 3}},
	{promise: "a send that does not fit stores nothing", check: sendThatDoesNotFit, options: store.StreamOptions{MaxBytes: 6, RetainAtLeast: 2}},
	{promise: "a batch never drops its own messages", check: batchDropsNoneOfItsOwn, options: store.StreamOptions{MaxBytes: 6}},
	{promise: "a dropped message is not delivered, and an ack of it succeeds", check: droppedIsNotDelivered, options: store.StreamOptions{RetainUpTo: 2}},
	{promise: "seqs go on when everything was dropped", check: seqsGoOn, options: store.StreamOptions{RetainUpTo: 1}},
}

func newestStay(f *fixture) {
	f.send("a", "b")
	f.send("c", "a", "d")
	require.Equal(f.t, []string{"c=", "a=", "d="}, f.stored())
	require.Equal(f.t, []int64{3, 4, 5}, seqs(f.list(store.ListQuery{Limit: 9})))
	require.Equal(f.t, []string{"c=", "a=", "d="}, got(f.receive(9)))
	_, err := f.stream.Get(f.t.Context(), "b")
	require.ErrorIs(f.t, err, store.ErrNoMessage)
	info := f.streamInfo()
	require.Equal(f.t, []any{3, int64(3)}, []any{info.Messages, info.Bytes})
}

func newestKeysStay(f *fixture) {
	f.send("a=1", "b=1", "c=1")
	f.send("a=2", "d=1")
	require.Equal(f.t, []string{"c=1", "a=2", "d=1"}, f.stored())
	f.send("b=2")
	require.Equal(f.t, []string{"a=2", "d=1", "b=2"}, f.stored())
	m, err := f.stream.Get(f.t.Context(), "b")
	require.NoError(f.t, err)
	require.Equal(f.t, m.UpdatedAt, m.InsertedAt, "a key that was dropped starts anew")
	require.Equal(f.t, []string{"a=2", "d=1", "b=2"}, got(f.receive(9)))
}

func batchLargerThanRetention(f *fixture) {
	require.Equal(f.t, 5, f.send("a", "b", "c", "d", "e"))
	require.Equal(f.t, []string{"d=", "e="}, f.stored())
	require.Equal(f.t, []string{"d=", "e="}, got(f.receive(9)))
}

func batchOfMoreKeys(f *fixture) {
	f.send("d=0")
	require.Equal(f.t, 5, f.send("a=1", "b=1", "c=1", "d=1", "e=1"))
	require.Equal(f.t, []string{"d=1", "e=1"}, f.stored())
	require.Equal(f.t, 2, f.streamInfo().Messages)
	require.Equal(f.t, []string{"d=1", "e=1"}, got(f.receive(9)))
}

func oldestMakeRoom(f *fixture) {
	f.send("a=1", "b=2", "c=3")
	f.send("d=45")
	require.Equal(f.t, []string{"c=3", "d=45"}, f.stored())
	require.Equal(f.t, int64(5), f.streamInfo().Bytes)
	f.send("e=67890")
	require.Equal(f.t, []string{"e=67890"}, f.stored())
}

func replacedMakesRoom(f *fixture) {
	f.send("a=1", "b=2", "c=3")
	require.Equal(f.t, 1, f.send("b=4"))
	require.Equal(f.t, []string{"a=1", "c=3", "b=4"}, f.stored())
	_, err := f.stream.Send(f.t.Context(), store.Once{}, batch([]string{"b=55"}))
	require.ErrorIs(f.t, err, store.ErrFull)
	require.Equal(f.t, []string{"a=1", "c=3", "b=4"}, f.stored(), "the replaced message is still there")
	m, err := f.stream.Get(f.t.Context(), "b")
	require.NoError(f.t, err)
	require.Equal(f.t, "4", m.Data)
}

func sendThatDoesNotFit(f *fixture) {
	f.send("a=1", "b=2", "c=3")
	before := f.list(store.ListQuery{Limit: 9})
	for _, refused := range [][]string{{"d=4567"}, {"d=1", "e=2", "f=3", "g=4"}} {
		n, err := f.stream.Send(f.t.Context(), store.Once{}, batch(refused))
		require.ErrorIs(f.t, err, store.ErrFull)
		require.Zero(f.t, n)
		require.Equal(f.t, before, f.list(store.ListQuery{Limit: 9}))
	}
	require.Equal(f.t, 1, f.send("d=4"))
	require.Equal(f.t, []string{"b=2", "c=3", "d=4"}, f.stored())
	require.Equal(f.t, []int64{2, 3, 4}, seqs(f.list(store.ListQuery{Limit: 9})), "a refused send takes no seq")
}

func batchDropsNoneOfItsOwn(f *fixture) {
	f.send("a=1")
	_, err := f.stream.Send(f.t.Context(), store.Once{}, batch([]string{"b=1", "c=2", "d=3", "e=4"}))
	require.ErrorIs(f.t, err, store.ErrFull)
	require.Equal(f.t, []string{"a=1"}, f.stored())
}

func droppedIsNotDelivered(f *fixture) {
	f.send("a", "b")
	leased := f.receive(1)
	f.send("c", "d") // drops a, which is on lease, and b
	require.Empty(f.t, f.state().Outstanding, "the lease has ended")
	f.ack(leased...)
	require.Equal(f.t, []string{"c=", "d="}, got(f.receive(9)))
}

func seqsGoOn(f *fixture) {
	for range 5 {
		f.send("a")
	}
	require.Equal(f.t, []int64{5}, seqs(f.list(store.ListQuery{Limit: 9})))
}
