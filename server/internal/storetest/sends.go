package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Streams that keep one message per key: the second kind takes a message with unchanged data as a change.
var (
	onePerKey    = store.StreamOptions{OneMessagePerKey: true}
	onePerKeyAll = store.StreamOptions{OneMessagePerKey: true, ProcessUnmodified: true}
)

var sendTests = []test{
	{promise: "messages are appended in order, with seqs from 1", check: messagesAreAppended, timed: true},
	{promise: "a key may occur again, also in one batch", check: keyOccursAgain},
	{promise: "a message replaces the one with its key", check: messageIsReplaced, timed: true, options: onePerKey},
	{promise: "unchanged data is no change", check: unchangedData, options: onePerKey},
	{promise: "unchanged data is a change where the stream says so", check: unchangedDataThatCounts, options: onePerKeyAll},
	{promise: "the last of a key in one batch wins", check: lastOfABatchWins, options: onePerKey},
	{promise: "keys and data are kept byte for byte", check: dataIsKept},
	{promise: "keys and data are kept byte for byte where they may be replaced", check: dataIsKept, options: onePerKey},
	{promise: "a batch may have a thousand large messages", check: largeBatch},
	{promise: "neither the slice of a send is kept nor its strings", check: nothingOfASendIsKept},
	{promise: "neither the slice of a send is kept nor its strings where messages are replaced", check: nothingOfASendIsKept, options: onePerKey},
	{promise: "a message is found by its key", check: messageIsFound},
	{promise: "a message is found by its key where it may be replaced", check: messageIsFound, options: onePerKey},
	{promise: "a message that was not stored is not found", check: messageIsNotFound, options: onePerKey},
}

func messagesAreAppended(f *fixture) {
	first := time.Now().UnixMicro()
	require.Equal(f.t, 3, f.send("a=1", "b=2", "c="))
	time.Sleep(time.Second)
	require.Equal(f.t, 1, f.send("d=4"))
	later := first + time.Second.Microseconds()
	require.Equal(f.t, []store.Message{
		{Key: "a", Data: "1", Seq: 1, InsertedAt: first, UpdatedAt: first},
		{Key: "b", Data: "2", Seq: 2, InsertedAt: first, UpdatedAt: first},
		{Key: "c", Data: "", Seq: 3, InsertedAt: first, UpdatedAt: first},
		{Key: "d", Data: "4", Seq: 4, InsertedAt: later, UpdatedAt: later},
	}, f.list(store.ListQuery{Limit: 9}))
	require.Equal(f.t, f.list(store.ListQuery{Limit: 9}), messagesOf(f.receive(9)))
}

func messagesOf(all []store.Delivery) []store.Message {
	out := make([]store.Message, len(all))
	for i, d := range all {
		out[i] = d.Message
	}
	return out
}

func keyOccursAgain(f *fixture) {
	require.Equal(f.t, 3, f.send("a=1", "a=1", "a=2"))
	require.Equal(f.t, 1, f.send("a=1"))
	require.Equal(f.t, []string{"a=1", "a=1", "a=2", "a=1"}, f.stored())
	m, err := f.stream.Get(f.t.Context(), "a")
	require.NoError(f.t, err)
	require.Equal(f.t, int64(4), m.Seq, "the newest")
}

func messageIsReplaced(f *fixture) {
	first := time.Now().UnixMicro()
	f.send("a=1", "b=2")
	time.Sleep(time.Second)
	require.Equal(f.t, 1, f.send("a=3"))
	later := first + time.Second.Microseconds()
	require.Equal(f.t, []store.Message{
		{Key: "b", Data: "2", Seq: 2, InsertedAt: first, UpdatedAt: first},
		{Key: "a", Data: "3", Seq: 3, InsertedAt: first, UpdatedAt: later},
	}, f.list(store.ListQuery{Limit: 9}))
	info := f.streamInfo()
	require.Equal(f.t, 2, info.Messages)
	require.Equal(f.t, int64(4), info.Bytes)
}

func unchangedData(f *fixture) {
	f.send("a=1")
	f.ack(f.receive(1)...)
	require.Equal(f.t, 1, f.send("a=1", "b=2"))
	require.Equal(f.t, []string{"b=2"}, got(f.receive(9)), "it is not delivered again")
	require.Equal(f.t, 0, f.send("a=1", "b=2"))
	require.Equal(f.t, []int64{1, 2}, seqs(f.list(store.ListQuery{Limit: 9})))
}

func unchangedDataThatCounts(f *fixture) {
	f.send("a=1")
	f.ack(f.receive(1)...)
	require.Equal(f.t, 1, f.send("a=1"))
	require.Equal(f.t, []string{"a=1"}, got(f.receive(9)))
	require.Equal(f.t, []int64{2}, seqs(f.list(store.ListQuery{Limit: 9})))
}

func seqs(messages []store.Message) []int64 {
	out := make([]int64, len(messages))
	for i, m := range messages {
		out[i] = m.Seq
	}
	return out
}

func lastOfABatchWins(f *fixture) {
	require.Equal(f.t, 4, f.send("a=1", "b=1", "a=2", "a=3"))
	require.Equal(f.t, []string{"b=1", "a=3"}, f.stored())
	require.Equal(f.t, []int64{1, 2}, seqs(f.list(store.ListQuery{Limit: 9})), "what is replaced within a batch takes no seq")
	require.Equal(f.t, 2, f.send("a=9", "a=3"), "each is a change")
	require.Equal(f.t, []string{"b=1", "a=3"}, got(f.receive(9)))
}

func dataIsKept(f *fixture) {
	data := []string{"", " ", "\t\r\n", "é世界🎉\u2028", `"\/`, strings.Repeat("x", 100_000), strings.Repeat("na", 5_000), "\x01\x7f"}
	var sent []store.Message
	for i, d := range data {
		sent = append(sent, store.Message{Key: fmt.Sprintf("k.%d.!~#/%%", i), Data: d})
	}
	sent = append(sent, store.Message{Key: strings.Repeat("k", 255), Data: "x"})
	_, err := f.stream.Send(f.t.Context(), store.Once{}, sent)
	require.NoError(f.t, err)
	require.Equal(f.t, pairs(sent), f.stored())
	require.Equal(f.t, pairs(sent), got(f.receive(len(sent))))
	for _, m := range sent {
		stored, err := f.stream.Get(f.t.Context(), m.Key)
		require.NoError(f.t, err)
		require.Equal(f.t, m.Data, stored.Data)
	}
}

func largeBatch(f *fixture) {
	keys := numbered("k", 1_000)
	for i := range keys {
		keys[i] += "=" + strings.Repeat(fmt.Sprint(i%10), 7_000)
	}
	require.Equal(f.t, 1_000, f.send(keys...))
	var received []string
	for len(received) < 1_000 {
		some := got(f.receive(1_000))
		require.NotEmpty(f.t, some)
		received = append(received, some...)
	}
	require.True(f.t, slices.Equal(keys, received))
}

func nothingOfASendIsKept(f *fixture) {
	place := need(f, f.consumer.Queue) // a receive that waits may get messages from the send itself
	defer place.Leave()
	text := []byte("a1b2")
	at := func(i int) string { return unsafe.String(&text[i], 1) }
	messages := []store.Message{{Key: at(0), Data: at(1)}, {Key: at(2), Data: at(3)}}
	_, err := f.stream.Send(f.t.Context(), store.Once{}, messages)
	require.NoError(f.t, err)
	clear(messages)
	copy(text, "xxxx")
	require.Equal(f.t, []string{"a=1", "b=2"}, f.stored())
	received, err := place.Receive(f.t.Context(), 9, nil)
	require.NoError(f.t, err)
	require.Equal(f.t, []string{"a=1", "b=2"}, got(received))
	m, err := f.stream.Get(f.t.Context(), "b")
	require.NoError(f.t, err)
	require.Equal(f.t, "2", m.Data)
}

func messageIsFound(f *fixture) {
	f.send("a=1", "b=2")
	f.send("a=3")
	m, err := f.stream.Get(f.t.Context(), "a")
	require.NoError(f.t, err)
	require.Equal(f.t, []any{"a", "3", int64(3)}, []any{m.Key, m.Data, m.Seq})
	m, err = f.stream.Get(f.t.Context(), "b")
	require.NoError(f.t, err)
	require.Equal(f.t, []any{"b", "2", int64(2)}, []any{m.Key, m.Data, m.Seq})
}

func messageIsNotFound(f *fixture) {
	f.send("a.b")
	for _, key := range []string{"a", "a.b.c", "A.b", ""} {
		_, err := f.stream.Get(f.t.Context(), key)
		require.ErrorIs(f.t, err, store.ErrNoMessage, key)
		_, _, err = f.stream.States(f.t.Context(), key)
		require.ErrorIs(f.t, err, store.ErrNoMessage, key)
	}
}
