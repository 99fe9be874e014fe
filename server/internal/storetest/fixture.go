package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// fixture is a store with a stream "s" and a consumer "c" of all its messages. Its methods end the test on an error.
type fixture struct {
	t        *testing.T
	cfg      *Config
	store    store.Store
	stream   store.Stream
	consumer store.Consumer
}

// newFixture opens a store. Limits of zero are ones that no test reaches.
func newFixture(t *testing.T, cfg *Config, o store.StreamOptions, limits store.ConsumerLimits) *fixture {
	t.Helper()
	f := &fixture{t: t, cfg: cfg, store: cfg.Open(t)}
	t.Cleanup(func() { _ = f.store.Close() })
	o.Name = "s"
	f.stream = f.createStream(o)
	f.consumer = f.createConsumer(f.stream, "c", ">", limits)
	return f
}

func (f *fixture) createStream(o store.StreamOptions) store.Stream {
	f.t.Helper()
	s, err := f.store.CreateStream(f.t.Context(), o)
	require.NoError(f.t, err)
	return s
}

func (f *fixture) createConsumer(s store.Stream, name, filter string, limits store.ConsumerLimits) store.Consumer {
	f.t.Helper()
	c, err := s.CreateConsumer(f.t.Context(), store.ConsumerOptions{Name: name, Filter: filter, ConsumerLimits: orDefaults(limits)})
	require.NoError(f.t, err)
	return c
}

func orDefaults(l store.ConsumerLimits) store.ConsumerLimits {
	if l.AckWait == 0 {
		l.AckWait = time.Minute
	}
	if l.MaxAckPending == 0 {
		l.MaxAckPending = 1 << 30
	}
	if l.MaxWaiting == 0 {
		l.MaxWaiting = 20
	}
	return l
}

// reopen closes the store, opens it again, and finds the stream and the consumer by their ids.
func (f *fixture) reopen() {
	f.t.Helper()
	stream, consumer := f.stream.ID(), f.consumer.ID()
	f.store = f.cfg.Reopen(f.t, f.store)
	f.stream = f.findStream(stream)
	f.consumer = f.findConsumer(f.stream, consumer)
}

func (f *fixture) findStream(ref string) store.Stream {
	f.t.Helper()
	s, err := f.store.Stream(f.t.Context(), ref)
	require.NoError(f.t, err)
	return s
}

func (f *fixture) findConsumer(s store.Stream, ref string) store.Consumer {
	f.t.Helper()
	c, err := s.Consumer(f.t.Context(), ref)
	require.NoError(f.t, err)
	return c
}

// send sends one batch of key=data pairs, or of keys alone, and returns how many messages changed the stream.
func (f *fixture) send(pairs ...string) int {
	f.t.Helper()
	n, err := f.stream.Send(f.t.Context(), store.Once{}, batch(pairs))
	require.NoError(f.t, err)
	return n
}

func batch(pairs []string) []store.Message {
	messages := make([]store.Message, len(pairs))
	for i, pair := range pairs {
		messages[i].Key, messages[i].Data, _ = strings.Cut(pair, "=")
	}
	return messages
}

func (f *fixture) receive(n int) []store.Delivery { f.t.Helper(); return f.receiveFrom(f.consumer, n) }

func (f *fixture) receiveFrom(c store.Consumer, n int) []store.Delivery {
	f.t.Helper()
	got, err := c.Receive(f.t.Context(), n, nil)
	require.NoError(f.t, err)
	return got
}

func (f *fixture) settle(how store.Settlement, got ...store.Delivery) {
	f.t.Helper()
	ids := make([]store.ID, len(got))
	for i := range got {
		ids[i] = got[i].ID
	}
	require.NoError(f.t, f.consumer.Settle(f.t.Context(), ids, how))
}

func (f *fixture) ack(got ...store.Delivery)  { f.t.Helper(); f.settle(store.Ack, got...) }
func (f *fixture) nack(got ...store.Delivery) { f.t.Helper(); f.settle(store.Nack, got...) }

// update changes the limits of the consumer.
func (f *fixture) update(change func(*store.ConsumerLimits)) {
	f.t.Helper()
	limits := f.info().ConsumerLimits
	change(&limits)
	_, err := f.consumer.Update(f.t.Context(), limits)
	require.NoError(f.t, err)
}

func (f *fixture) info() store.ConsumerInfo {
	f.t.Helper()
	return need(f, f.consumer.Info)
}

// streamInfo returns what the stream says, and checks that the list of all streams says the same.
func (f *fixture) streamInfo() store.StreamInfo {
	f.t.Helper()
	info := need(f, f.stream.Info)
	all, err := store.StreamInfos(f.t.Context(), f.store)
	require.NoError(f.t, err)
	require.Contains(f.t, all, info)
	return info
}

func (f *fixture) list(q store.ListQuery) []store.Message {
	f.t.Helper()
	all, err := f.stream.List(f.t.Context(), q)
	require.NoError(f.t, err)
	return all
}

// stored returns the messages of the stream as key=data.
func (f *fixture) stored() []string {
	f.t.Helper()
	return pairs(f.list(store.ListQuery{Limit: 1 << 30}))
}

func (f *fixture) peek(q store.PeekQuery) []store.View {
	f.t.Helper()
	views, err := f.consumer.Peek(f.t.Context(), q)
	require.NoError(f.t, err)
	return views
}

func (f *fixture) state() store.ConsumerState {
	f.t.Helper()
	return need(f, f.consumer.State)
}

func pairs(messages []store.Message) []string {
	out := make([]string, len(messages))
	for i, m := range messages {
		out[i] = m.Key + "=" + m.Data
	}
	return out
}

// got returns deliveries as key=data.
func got(all []store.Delivery) []string {
	out := make([]string, len(all))
	for i, d := range all {
		out[i] = d.Key + "=" + d.Data
	}
	return out
}

// numbered returns n keys with a prefix.
func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(prefix, i)
	}
	return out
}

// need returns what a method returns, and ends the test on an error.
func need[T any](f *fixture, method func(context.Context) (T, error)) T {
	f.t.Helper()
	v, err := method(f.t.Context())
	require.NoError(f.t, err)
	return v
}
