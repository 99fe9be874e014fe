package storetest

import (
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var streamTests = []test{
	{promise: "a stream is found by its id and by its name", check: streamIsFound},
	{promise: "an id is preferred to a name that looks like one", check: idIsPreferred},
	{promise: "a name is used once, in each case", check: nameIsUsedOnce},
	{promise: "streams are listed newest first", check: streamsAreListed},
	{promise: "a stream shows what it was created with and what it holds", check: streamShowsItself, timed: true,
		options: store.StreamOptions{OneMessagePerKey: true, ProcessUnmodified: true, MaxBytes: 1 << 40, RetainUpTo: 70, RetainAtLeast: 7}},
	{promise: "a deleted stream is gone with all it held", check: streamIsDeleted},
	{promise: "a stream that is created again is empty", check: streamIsCreatedAgain},
	{promise: "streams do not touch one another", check: streamsAreApart},
	{promise: "a store has an id and answers a probe", check: storeAnswers},
}

func streamIsFound(f *fixture) {
	require.Equal(f.t, f.stream.ID(), f.findStream("s").ID())
	require.Equal(f.t, f.stream.ID(), f.findStream(f.stream.ID()).ID())
	_, err := uuid.Parse(f.stream.ID())
	require.NoError(f.t, err)
	for _, ref := range []string{"", "S", "t", uuid.NewString()} {
		_, err := f.store.Stream(f.t.Context(), ref)
		require.ErrorIs(f.t, err, store.ErrNoStream, ref)
	}
}

func idIsPreferred(f *fixture) {
	f.createStream(store.StreamOptions{Name: f.stream.ID()})
	require.Equal(f.t, f.stream.ID(), f.findStream(f.stream.ID()).ID())
}

func nameIsUsedOnce(f *fixture) {
	_, err := f.store.CreateStream(f.t.Context(), store.StreamOptions{Name: "s"})
	require.ErrorIs(f.t, err, store.ErrNameTaken)
	require.NotEqual(f.t, f.stream.ID(), f.createStream(store.StreamOptions{Name: "S"}).ID())
	require.Equal(f.t, []string{"S", "s"}, f.streamNames())
}

func (f *fixture) streamNames() (names []string) {
	f.t.Helper()
	for _, s := range need(f, f.store.Streams) {
		names = append(names, need(f, s.Info).Name)
	}
	return names
}

func streamsAreListed(f *fixture) {
	for _, name := range []string{"b", "a", "c"} {
		f.createStream(store.StreamOptions{Name: name})
	}
	require.Equal(f.t, []string{"c", "a", "b", "s"}, f.streamNames())
	infos, err := store.StreamInfos(f.t.Context(), f.store)
	require.NoError(f.t, err)
	for i, name := range f.streamNames() {
		require.Equal(f.t, need(f, f.findStream(name).Info), infos[i])
	}
	require.NoError(f.t, f.findStream("a").Delete(f.t.Context()))
	require.Equal(f.t, []string{"c", "b", "s"}, f.streamNames())
	infos, err = store.StreamInfos(f.t.Context(), f.store)
	require.NoError(f.t, err)
	require.Len(f.t, infos, 3)
}

func streamShowsItself(f *fixture) {
	created := time.Now()
	time.Sleep(time.Hour)
	f.send("ab=123", "c=4")
	f.createConsumer(f.stream, "d", ">", store.ConsumerLimits{})
	info := f.streamInfo()
	require.True(f.t, created.Equal(info.InsertedAt) && created.Equal(info.UpdatedAt), info)
	require.Equal(f.t, store.StreamInfo{
		StreamOptions: store.StreamOptions{Name: "s", OneMessagePerKey: true, ProcessUnmodified: true, MaxBytes: 1 << 40, RetainUpTo: 70, RetainAtLeast: 7},
		ID:            f.stream.ID(), InsertedAt: info.InsertedAt, UpdatedAt: info.UpdatedAt, Messages: 2, Consumers: 2, Bytes: 7,
	}, info)
}

func streamIsDeleted(f *fixture) {
	f.send("a")
	leased := f.receive(1)
	place, err := f.consumer.Queue(f.t.Context())
	require.NoError(f.t, err)
	defer place.Leave()
	require.NoError(f.t, f.stream.Delete(f.t.Context()))
	<-place.Ready()
	_, err = place.Receive(f.t.Context(), 1, nil)
	require.ErrorIs(f.t, err, store.ErrNoConsumer)
	_, err = f.store.Stream(f.t.Context(), "s")
	require.ErrorIs(f.t, err, store.ErrNoStream)
	require.Empty(f.t, f.streamNames())
	require.ErrorIs(f.t, f.stream.Delete(f.t.Context()), store.ErrNoStream)
	_, err = f.stream.Send(f.t.Context(), store.Once{}, batch([]string{"a"}))
	require.ErrorIs(f.t, err, store.ErrNoStream)
	_, err = f.stream.CreateConsumer(f.t.Context(), store.ConsumerOptions{Name: "d", Filter: ">"})
	require.ErrorIs(f.t, err, store.ErrNoStream)
	_, err = f.store.Consumer(f.t.Context(), f.consumer.ID())
	require.ErrorIs(f.t, err, store.ErrNoConsumer)
	f.requireEnded(f.consumer, leased[0].ID, store.ErrNoConsumer)
}

// requireEnded holds that what changes a consumer returns this error.
func (f *fixture) requireEnded(c store.Consumer, id store.ID, want error) {
	f.t.Helper()
	_, err := c.Update(f.t.Context(), orDefaults(store.ConsumerLimits{}))
	require.ErrorIs(f.t, err, want)
	got, err := c.Receive(f.t.Context(), 1, nil)
	require.ErrorIs(f.t, err, want)
	require.Empty(f.t, got)
	_, err = c.Queue(f.t.Context())
	require.ErrorIs(f.t, err, want)
	require.ErrorIs(f.t, c.Settle(f.t.Context(), []store.ID{id}, store.Ack), want)
}

func streamIsCreatedAgain(f *fixture) {
	f.send("a", "b")
	old := f.stream
	require.NoError(f.t, f.stream.Delete(f.t.Context()))
	f.stream = f.createStream(store.StreamOptions{Name: "s"})
	require.NotEqual(f.t, old.ID(), f.stream.ID())
	require.Empty(f.t, f.stored())
	_, err := f.stream.Consumer(f.t.Context(), "c")
	require.ErrorIs(f.t, err, store.ErrNoConsumer)
	f.send("c")
	require.Equal(f.t, int64(1), f.list(store.ListQuery{Limit: 9})[0].Seq)
	_, err = old.Send(f.t.Context(), store.Once{}, batch([]string{"x"}))
	require.ErrorIs(f.t, err, store.ErrNoStream)
	require.Equal(f.t, []string{"c="}, f.stored())
}

func streamsAreApart(f *fixture) {
	other := f.createStream(store.StreamOptions{Name: "t"})
	c := f.createConsumer(other, "c", ">", store.ConsumerLimits{})
	f.send("a", "b")
	_, err := other.Send(f.t.Context(), store.Once{}, batch([]string{"x"}))
	require.NoError(f.t, err)
	f.send("c")
	require.Equal(f.t, []string{"a=", "b=", "c="}, got(f.receive(9)))
	all := f.receiveFrom(c, 9)
	require.Equal(f.t, []string{"x="}, got(all))
	require.Equal(f.t, int64(1), all[0].Seq)
	f.ack(all...) // ids of another consumer: nothing happens
	require.Len(f.t, need(f, c.State).Outstanding, 1)
	require.NoError(f.t, other.Delete(f.t.Context()))
	require.Equal(f.t, []string{"a=", "b=", "c="}, f.stored())
}

func storeAnswers(f *fixture) {
	_, err := uuid.Parse(f.store.ID())
	require.NoError(f.t, err)
	require.Equal(f.t, f.store.ID(), f.store.ID())
	require.NoError(f.t, f.store.Probe(f.t.Context()))
}
