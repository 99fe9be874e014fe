package storetest

import (
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var consumerTests = []test{
	{promise: "a consumer is found by its id and by its name", check: consumerIsFound},
	{promise: "a name is used once in a stream", check: consumerNameIsUsedOnce},
	{promise: "a store finds a consumer of any stream", check: consumerOfAnyStream},
	{promise: "consumers are listed in the order of their creation", check: consumersAreListed},
	{promise: "a consumer shows what it was created with", check: consumerShowsItself, timed: true},
	{promise: "an update replaces the limits and nothing else", check: consumerIsUpdated, timed: true},
	{promise: "a deleted consumer is gone, and the others are not", check: consumerIsDeleted},
	{promise: "a new consumer starts at the beginning of the stream", check: newConsumerStartsAtTheBeginning},
	{promise: "a consumer gets the messages that its filter matches", check: consumerIsFiltered},
	{promise: "each consumer gets every message", check: consumersAreApart},
}

func consumerIsFound(f *fixture) {
	require.Equal(f.t, f.consumer.ID(), f.findConsumer(f.stream, "c").ID())
	require.Equal(f.t, f.consumer.ID(), f.findConsumer(f.stream, f.consumer.ID()).ID())
	require.Equal(f.t, f.stream.ID(), f.findConsumer(f.stream, "c").StreamID())
	_, err := uuid.Parse(f.consumer.ID())
	require.NoError(f.t, err)
	f.createConsumer(f.stream, f.consumer.ID(), "x", store.ConsumerLimits{})
	require.Equal(f.t, f.consumer.ID(), f.findConsumer(f.stream, f.consumer.ID()).ID(), "an id is preferred to a name that looks like one")
	for _, ref := range []string{"", "C", "d", uuid.NewString(), f.stream.ID()} {
		_, err := f.stream.Consumer(f.t.Context(), ref)
		require.ErrorIs(f.t, err, store.ErrNoConsumer, ref)
	}
}

func consumerNameIsUsedOnce(f *fixture) {
	o := store.ConsumerOptions{Name: "c", Filter: "a", ConsumerLimits: orDefaults(store.ConsumerLimits{})}
	_, err := f.stream.CreateConsumer(f.t.Context(), o)
	require.ErrorIs(f.t, err, store.ErrNameTaken)
	f.createConsumer(f.createStream(store.StreamOptions{Name: "t"}), "c", ">", store.ConsumerLimits{})
	f.createConsumer(f.stream, "C", ">", store.ConsumerLimits{})
}

func consumerOfAnyStream(f *fixture) {
	other := f.createStream(store.StreamOptions{Name: "t"})
	d := f.createConsumer(other, "d", ">", store.ConsumerLimits{})
	for _, ref := range []string{"d", d.ID()} {
		found, err := f.store.Consumer(f.t.Context(), ref)
		require.NoError(f.t, err)
		require.Equal(f.t, d.ID(), found.ID())
		require.Equal(f.t, other.ID(), found.StreamID())
	}
	_, err := f.store.Consumer(f.t.Context(), "e")
	require.ErrorIs(f.t, err, store.ErrNoConsumer)
	second := f.createConsumer(other, "c", ">", store.ConsumerLimits{})
	_, err = f.store.Consumer(f.t.Context(), "c")
	require.ErrorIs(f.t, err, store.ErrAmbiguous)
	found, err := f.store.Consumer(f.t.Context(), second.ID())
	require.NoError(f.t, err)
	require.Equal(f.t, second.ID(), found.ID())
}

func (f *fixture) consumerNames() (names []string) {
	f.t.Helper()
	for _, c := range need(f, f.stream.Consumers) {
		names = append(names, need(f, c.Info).Name)
	}
	return names
}

func consumersAreListed(f *fixture) {
	for _, name := range []string{"b", "a", "d"} {
		f.createConsumer(f.stream, name, ">", store.ConsumerLimits{})
	}
	require.Equal(f.t, []string{"c", "b", "a", "d"}, f.consumerNames())
	require.NoError(f.t, f.findConsumer(f.stream, "b").Delete(f.t.Context()))
	require.Equal(f.t, []string{"c", "a", "d"}, f.consumerNames())
	require.Equal(f.t, 3, f.streamInfo().Consumers)
}

func consumerShowsItself(f *fixture) {
	created := time.Now()
	limits := store.ConsumerLimits{AckWait: 7 * time.Second, MaxAckPending: 8, MaxDeliver: 9, MaxWaiting: 10}
	c := f.createConsumer(f.stream, "d", "a.*.>", limits)
	time.Sleep(time.Hour)
	info := need(f, c.Info)
	require.True(f.t, created.Equal(info.InsertedAt) && created.Equal(info.UpdatedAt), info)
	require.Equal(f.t, store.ConsumerInfo{
		ConsumerOptions: store.ConsumerOptions{Name: "d", Filter: "a.*.>", Start: info.Start, ConsumerLimits: limits},
		ID:              c.ID(), StreamID: f.stream.ID(), InsertedAt: info.InsertedAt, UpdatedAt: info.UpdatedAt,
	}, info)
}

func consumerIsUpdated(f *fixture) {
	before := f.info()
	time.Sleep(time.Hour)
	limits := store.ConsumerLimits{AckWait: 7 * time.Second, MaxAckPending: 8, MaxDeliver: 9, MaxWaiting: 10}
	updated, err := f.consumer.Update(f.t.Context(), limits)
	require.NoError(f.t, err)
	require.True(f.t, time.Now().Equal(updated.UpdatedAt), updated)
	require.Equal(f.t, updated, f.info())
	before.ConsumerLimits, before.UpdatedAt = limits, updated.UpdatedAt
	require.Equal(f.t, before, updated)
}

func consumerIsDeleted(f *fixture) {
	f.send("a", "b")
	other := f.createConsumer(f.stream, "d", ">", store.ConsumerLimits{})
	leased := f.receive(1)
	require.NoError(f.t, f.consumer.Delete(f.t.Context()))
	require.ErrorIs(f.t, f.consumer.Delete(f.t.Context()), store.ErrNoConsumer)
	f.requireEnded(f.consumer, leased[0].ID, store.ErrNoConsumer)
	_, err := f.stream.Consumer(f.t.Context(), "c")
	require.ErrorIs(f.t, err, store.ErrNoConsumer)
	require.Equal(f.t, []string{"d"}, f.consumerNames())
	require.Equal(f.t, []string{"a=", "b="}, got(f.receiveFrom(other, 9)))
	again := f.createConsumer(f.stream, "c", ">", store.ConsumerLimits{})
	require.NotEqual(f.t, f.consumer.ID(), again.ID())
	require.Equal(f.t, []string{"a=", "b="}, got(f.receiveFrom(again, 9)), "it starts anew")
}

func newConsumerStartsAtTheBeginning(f *fixture) {
	f.send("a=1", "b=2")
	f.ack(f.receive(9)...)
	f.send("c=3")
	require.Equal(f.t, []string{"a=1", "b=2", "c=3"}, got(f.receiveFrom(f.createConsumer(f.stream, "d", ">", store.ConsumerLimits{}), 9)))
}

func consumerIsFiltered(f *fixture) {
	keys := []string{"a", "a.b", "a.b.c", "b", "b.b", "ab"}
	f.send(keys...)
	for filter, want := range map[string][]string{
		">": keys, "a": {"a"}, "a.>": {"a.b", "a.b.c"}, "*": {"a", "b", "ab"}, "*.b": {"a.b", "b.b"}, "*.*.*": {"a.b.c"}, "c.>": {},
	} {
		c := f.createConsumer(f.stream, "f", filter, store.ConsumerLimits{})
		var received []string
		for _, d := range f.receiveFrom(c, 9) {
			received = append(received, d.Key)
		}
		require.ElementsMatch(f.t, want, received, filter)
		require.NoError(f.t, c.Delete(f.t.Context()))
	}
}

func consumersAreApart(f *fixture) {
	other := f.createConsumer(f.stream, "d", ">", store.ConsumerLimits{})
	f.send("a", "b")
	mine := f.receive(9)
	theirs := f.receiveFrom(other, 9)
	require.Equal(f.t, got(mine), got(theirs))
	f.ack(mine...)
	require.Len(f.t, need(f, other.State).Outstanding, 2)
	f.ack(theirs...) // ids of another consumer
	require.Len(f.t, need(f, other.State).Outstanding, 2)
}
