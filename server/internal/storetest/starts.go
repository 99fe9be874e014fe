package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var startTests = []test{
	{promise: "a consumer starts at a seq", check: startAtSeq},
	{promise: "a consumer of one per key starts at a seq", check: startAtSeq, options: onePerKey},
	{promise: "a consumer starts at the end", check: startAtEnd},
	{promise: "a start does not go beyond the next message", check: startBeyondEnd},
	{promise: "a message before the start holds up none of its key", check: startHoldsUpNothing},
	{promise: "a time has a seq", check: seqAtTime, timed: true},
	{promise: "a time of one per key has a seq", check: seqAtTime, timed: true, options: onePerKey},
	{promise: "the start outlives the store", check: startReopened, reopens: true},
}

func (f *fixture) createFrom(name string, start int64) (store.Consumer, int64) {
	f.t.Helper()
	c, err := f.extended().CreateConsumer(f.t.Context(), store.ConsumerOptions{
		Name: name, Filter: ">", Start: start, ConsumerLimits: orDefaults(store.ConsumerLimits{}),
	})
	require.NoError(f.t, err)
	return c, need(f, c.Info).Start
}

func startAtSeq(f *fixture) {
	f.extended()
	require.EqualValues(f.t, 1, f.info().Start, "the default")
	f.send("a", "b", "c", "d")
	for start := range int64(6) {
		c, at := f.createFrom(string(rune('s'+start)), start)
		require.Equal(f.t, max(1, start), at)
		want := []string{"a=", "b=", "c=", "d="}[max(1, start)-1:]
		views, err := c.Peek(f.t.Context(), store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}})
		require.NoError(f.t, err)
		require.Len(f.t, views, len(want))
		require.Equal(f.t, want, append([]string{}, got(f.receiveFrom(c, 9))...))
	}
	f.send("e")
	require.Equal(f.t, []string{"a=", "b=", "c=", "d=", "e="}, got(f.receive(9)), "others start where they did")
}

func startAtEnd(f *fixture) {
	empty, at := f.createFrom("empty", store.StartAtEnd)
	require.EqualValues(f.t, 1, at)
	f.send("a", "b")
	c, at := f.createFrom("end", store.StartAtEnd)
	require.EqualValues(f.t, 3, at)
	require.Empty(f.t, f.receiveFrom(c, 9))
	f.send("c")
	require.Equal(f.t, []string{"c="}, got(f.receiveFrom(c, 9)))
	require.Equal(f.t, []string{"a=", "b=", "c="}, got(f.receiveFrom(empty, 9)))
	f.purge(store.PurgeQuery{})
	_, at = f.createFrom("purged", store.StartAtEnd)
	require.EqualValues(f.t, 4, at)
}

func startBeyondEnd(f *fixture) {
	f.send("a")
	c, at := f.createFrom("beyond", 100)
	require.EqualValues(f.t, 2, at)
	f.send("b")
	require.Equal(f.t, []string{"b="}, got(f.receiveFrom(c, 9)))
}

func startHoldsUpNothing(f *fixture) {
	f.send("k=1", "k=2", "k=3")
	c, _ := f.createFrom("late", 2)
	first := f.receiveFrom(c, 9)
	require.Equal(f.t, []string{"k=2"}, got(first))
	require.NoError(f.t, c.Settle(f.t.Context(), []store.ID{first[0].ID}, store.Ack))
	require.Equal(f.t, []string{"k=3"}, got(f.receiveFrom(c, 9)))
}

func seqAtTime(f *fixture) {
	seqAt := func(at time.Time) int64 {
		seq, err := f.extended().SeqAt(f.t.Context(), at)
		require.NoError(f.t, err)
		return seq
	}
	require.EqualValues(f.t, 1, seqAt(time.Now()), "of an empty stream")
	var times []time.Time
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		times = append(times, time.Now())
		f.send(key+".1", key+".2")
		time.Sleep(time.Second)
	}
	for i, at := range times {
		require.EqualValues(f.t, 1+2*i, seqAt(at), i)
		require.EqualValues(f.t, 3+2*i, seqAt(at.Add(time.Microsecond)), i)
	}
	require.EqualValues(f.t, 1, seqAt(time.Unix(0, 0)))
	require.EqualValues(f.t, 11, seqAt(time.Now().Add(time.Hour)))
	f.purge(store.PurgeQuery{Pattern: "c.*"})
	require.EqualValues(f.t, 7, seqAt(times[2].Add(time.Microsecond)), "where messages are missing")
	f.purge(store.PurgeQuery{})
	require.EqualValues(f.t, 11, seqAt(times[0]))
}

func startReopened(f *fixture) {
	f.send("a", "b", "c")
	c, _ := f.createFrom("second", 2)
	end, _ := f.createFrom("end", store.StartAtEnd)
	for range 2 {
		f.reopen()
		for id, start := range map[string]int64{c.ID(): 2, end.ID(): 4, f.consumer.ID(): 1} {
			require.Equal(f.t, start, need(f, f.findConsumer(f.stream, id).Info).Start)
		}
	}
	require.Equal(f.t, []string{"b=", "c="}, got(f.receiveFrom(f.findConsumer(f.stream, c.ID()), 9)))
	require.Empty(f.t, f.receiveFrom(f.findConsumer(f.stream, end.ID()), 9))
}
