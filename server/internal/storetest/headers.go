package storetest

import (
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

var headerTests = []test{
	{promise: "every read of a message has its headers", check: headersAreKept},
	{promise: "every read of a message has its headers where messages are replaced", check: headersAreKept, options: onePerKey},
	{promise: "a receive that waits gets the headers", check: headersReachAWait},
	{promise: "other headers are a change", check: otherHeadersAreAChange, options: onePerKey},
	{promise: "headers count in the bytes of a stream", check: headersCount},
	{promise: "headers count in the bytes of a stream with one message per key", check: headersCount, options: onePerKey},
	{promise: "headers count toward max_bytes", check: headersAreBounded, options: store.StreamOptions{MaxBytes: 20}},
	{promise: "headers count toward max_bytes where messages are replaced", check: headersAreBounded, options: store.StreamOptions{MaxBytes: 20, OneMessagePerKey: true}},
	{promise: "headers count in the size of an answer", check: headersFillAnswers},
	{promise: "headers outlive the store", check: headersReopened, reopens: true},
	{promise: "headers outlive the store where messages are replaced", check: headersReopened, reopens: true, options: onePerKey},
}

// requireHeaders skips the test for a store that does not keep headers.
func (f *fixture) requireHeaders() {
	f.t.Helper()
	if !f.keepsHeaders() {
		f.t.Skip("the store does not keep headers")
	}
}

func (f *fixture) keepsHeaders() bool {
	_, ok := f.store.(store.KeepsHeaders)
	return ok
}

// withHeaders is a message with headers, given as name, value, and so on.
func withHeaders(pair string, all ...string) store.Message {
	m := batch([]string{pair})[0]
	var list []headers.Header
	for i := 0; i < len(all); i += 2 {
		list = append(list, headers.Header{Name: []byte(all[i]), Value: []byte(all[i+1])})
	}
	packed, err := headers.Append(nil, list)
	if err != nil {
		panic(err)
	}
	m.Headers = headers.Packed(packed)
	return m
}

// sendMessages sends one batch, and returns how many messages changed the stream.
func (f *fixture) sendMessages(messages ...store.Message) int {
	f.t.Helper()
	n, err := f.stream.Send(f.t.Context(), store.Once{}, messages)
	require.NoError(f.t, err)
	return n
}

// headed returns messages as key=data and headers.
func headed[T any](all []T, message func(*T) *store.Message) []string {
	out := make([]string, len(all))
	for i := range all {
		m := message(&all[i])
		out[i] = fmt.Sprint(m.Key, "=", m.Data, " ", string(m.Headers.AppendJSON(nil)))
	}
	return out
}

func ofMessage(m *store.Message) *store.Message   { return m }
func ofDelivery(d *store.Delivery) *store.Message { return &d.Message }
func ofView(v *store.View) *store.Message         { return &v.Message }

// mixed is a batch in which some messages have headers, and what is shown of it.
func mixed() (messages []store.Message, shown []string) {
	return []store.Message{
		withHeaders("a=1", "trace", "4bf9\"é", "empty", ""), withHeaders("b=2"), withHeaders("c=", "n", strings.Repeat("x", 5000)), withHeaders("d=4"),
	}, []string{`a=1 {"empty":"","trace":"4bf9\"é"}`, `b=2 {}`, `c= {"n":"` + strings.Repeat("x", 5000) + `"}`, `d=4 {}`}
}

// requireShown checks every read that leases nothing.
func (f *fixture) requireShown(want []string) {
	f.t.Helper()
	all := store.ListQuery{Limit: 99}
	require.Equal(f.t, want, headed(f.list(all), ofMessage))
	require.Equal(f.t, reversed(want), headed(f.list(store.ListQuery{Limit: 99, Desc: true}), ofMessage))
	require.Equal(f.t, want, headed(f.peek(store.PeekQuery{ListQuery: all}), ofView))
	m, views, err := f.stream.States(f.t.Context(), "a")
	require.NoError(f.t, err)
	require.Equal(f.t, want[:1], headed([]store.Message{m}, ofMessage))
	require.Equal(f.t, want[:1], headed([]store.View{views[0].View}, ofView))
}

func headersAreKept(f *fixture) {
	f.requireHeaders()
	messages, want := mixed()
	require.Equal(f.t, 4, f.sendMessages(messages...))
	f.requireShown(want)
	first := f.receive(99)
	require.Equal(f.t, want, headed(first, ofDelivery))
	f.requireShown(want)
	f.nack(first...)
	require.Equal(f.t, want, headed(f.receive(99), ofDelivery), "again")
}

// headersReachAWait sends while a receive waits, which may get the messages without a read of the store.
func headersReachAWait(f *fixture) {
	f.requireHeaders()
	p := f.queue()
	messages, want := mixed()
	f.sendMessages(messages...)
	f.requireCalled(p)
	require.Equal(f.t, want, headed(f.receiveAt(p, 99), ofDelivery))
}

func otherHeadersAreAChange(f *fixture) {
	f.requireHeaders()
	plain, one, two := withHeaders("a=1"), withHeaders("a=1", "n", "1"), withHeaders("a=1", "n", "2")
	for i, row := range []struct {
		send []store.Message
		want int
	}{
		{[]store.Message{plain}, 1},
		{[]store.Message{plain}, 0},
		{[]store.Message{one}, 1},
		{[]store.Message{one}, 0},
		{[]store.Message{two, two, plain}, 2},
		{[]store.Message{plain, plain}, 0},
		{[]store.Message{withHeaders("a=1n\x001\x00")}, 1}, // the same bytes as data
		{[]store.Message{one}, 1},
	} {
		require.Equal(f.t, row.want, f.sendMessages(row.send...), i)
	}
	require.Equal(f.t, []string{`a=1 {"n":"1"}`}, headed(f.receive(9), ofDelivery))
	require.Len(f.t, f.list(store.ListQuery{Limit: 9}), 1)
}

func headersCount(f *fixture) {
	f.requireHeaders()
	f.sendMessages(withHeaders("a=12", "n", "345", "o", ""), withHeaders("b=1"))
	require.EqualValues(f.t, 3+9+2, f.streamInfo().Bytes, "5 bytes of headers, and 2 for each")
}

func headersAreBounded(f *fixture) {
	f.requireHeaders()
	f.sendMessages(withHeaders("a=1", "n", "2345"))
	f.sendMessages(withHeaders("b=1", "n", "2345"))
	require.Equal(f.t, []string{"a=1", "b=1"}, f.stored())
	f.send("c=12")
	require.Equal(f.t, []string{"b=1", "c=12"}, f.stored())
	_, err := f.stream.Send(f.t.Context(), store.Once{}, []store.Message{withHeaders("d=1", "n", strings.Repeat("x", 16))})
	require.ErrorIs(f.t, err, store.ErrFull)
	require.EqualValues(f.t, 12, f.streamInfo().Bytes)
}

func headersFillAnswers(f *fixture) {
	f.requireHeaders()
	const size, fit = 16_000, store.MaxAnswerBytes / 16_000
	for i := range 2 {
		all := make([]store.Message, 300)
		for j := range all {
			all[j] = withHeaders(fmt.Sprintf("k%03d", 300*i+j), "n", strings.Repeat("x", size-len("k000")-len("n")-2))
		}
		f.sendMessages(all...)
	}
	require.Len(f.t, f.receive(1000), fit)
	require.Len(f.t, f.list(store.ListQuery{Limit: 1000}), fit)
	require.Len(f.t, f.peek(store.PeekQuery{ListQuery: store.ListQuery{Limit: 1000}}), fit)
}

func headersReopened(f *fixture) {
	f.requireHeaders()
	messages, want := mixed()
	f.sendMessages(messages...)
	for range 2 {
		f.reopen()
		f.requireShown(want)
		if f.streamInfo().OneMessagePerKey {
			require.Zero(f.t, f.sendMessages(messages...))
		}
	}
	require.Equal(f.t, want, headed(f.receive(99), ofDelivery))
	size := int64(0)
	for i := range messages {
		size += messages[i].Size()
	}
	require.Equal(f.t, size, f.streamInfo().Bytes)
}
