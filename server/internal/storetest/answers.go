package storetest

import (
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var answerTests = []test{
	{promise: "a receive stops before it holds more than an answer may", check: receiveIsBounded},
	{promise: "a message that cannot be delivered takes no room", check: withheldTakesNoRoom},
	{promise: "a list of large messages comes in pages", check: listComesInPages},
}

// sendSizes sends messages with keys k0, k1, … whose key and data have these sizes.
func (f *fixture) sendSizes(sizes ...int) {
	f.t.Helper()
	for i, size := range sizes {
		key := fmt.Sprint("k", i)
		f.send(key + "=" + strings.Repeat("x", size-len(key)))
	}
}

func receiveIsBounded(f *fixture) {
	const most = store.MaxAnswerBytes
	for i, tt := range []struct {
		sizes []int
		want  []int // messages of one receive after another
	}{
		{[]int{most / 2, most / 2, 10}, []int{2, 1}},
		{[]int{most/2 + 1, most / 2, 10}, []int{1, 2}},
		{[]int{2 * most, 2 * most, 10}, []int{1, 1, 1}}, // a message that is too large comes alone
		{[]int{10, most, 10, 10}, []int{1, 1, 2}},
	} {
		f.stream = f.createStream(store.StreamOptions{Name: fmt.Sprint("t", i)})
		f.consumer = f.createConsumer(f.stream, "c", ">", store.ConsumerLimits{})
		f.sendSizes(tt.sizes...)
		for turn, how := range []store.Settlement{store.Nack, store.Ack} { // messages that were never read, and ready ones
			var all []store.Delivery
			for _, want := range tt.want {
				some := f.receive(100)
				require.Lenf(f.t, some, want, "%v, turn %d", tt.sizes, turn)
				all = append(all, some...)
			}
			require.Empty(f.t, f.receive(100))
			for i, d := range all {
				require.Equal(f.t, fmt.Sprint("k", i), d.Key)
			}
			f.settle(how, all...)
		}
		require.NoError(f.t, f.stream.Delete(f.t.Context()))
	}
}

// withheldTakesNoRoom has a large message wait behind another of its key.
func withheldTakesNoRoom(f *fixture) {
	f.send("a=1")
	f.send("a="+strings.Repeat("x", store.MaxAnswerBytes), "b=1")
	require.Equal(f.t, []string{"a=1", "b=1"}, got(f.receive(10)))
}

func listComesInPages(f *fixture) {
	const size = store.MaxAnswerBytes / 4
	f.sendSizes(size, size, size, size, size, size, size, size, size, 10)
	for _, desc := range []bool{false, true} {
		var listed, peeked []string
		q := store.ListQuery{Limit: 100, Desc: desc}
		for page := f.list(q); len(page) > 0; page = f.list(q) {
			require.LessOrEqual(f.t, len(page), 5)
			views := f.peek(store.PeekQuery{ListQuery: q})
			require.LessOrEqual(f.t, len(views), 5)
			for _, m := range page {
				listed = append(listed, m.Key)
			}
			for _, v := range views {
				peeked = append(peeked, v.Message.Key)
			}
			q = q.Next(page[len(page)-1].Seq)
		}
		want := numbered("k", 10)
		if desc {
			want = reversed(want)
		}
		require.Equal(f.t, want, listed)
		require.Equal(f.t, want, peeked)
	}
}
