package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sendSizes sends messages with keys k0, k1, … whose key and data have these sizes.
func (f *fixture) sendSizes(sizes ...int) {
	f.t.Helper()
	for i, size := range sizes {
		key := fmt.Sprint("k", i)
		_, err := f.Send(f.t.Context(), Once{}, []Message{{Key: key, Data: strings.Repeat("x", size-len(key))}})
		require.NoError(f.t, err)
	}
}

func TestAReceiveStopsBeforeItHoldsMoreThanAnAnswerMay(t *testing.T) {
	const most = MaxAnswerBytes
	for _, tt := range []struct {
		sizes []int
		want  []int // messages of one receive after another
	}{
		{[]int{most / 2, most / 2, 10}, []int{2, 1}},
		{[]int{most/2 + 1, most / 2, 10}, []int{1, 2}},
		{[]int{3 * most, 3 * most, 10}, []int{1, 1, 1}}, // a message that is too large comes alone
		{[]int{10, most, 10, 10}, []int{1, 1, 2}},
	} {
		f := newFixture(t, StreamOptions{}, ConsumerLimits{})
		f.sendSizes(tt.sizes...)
		for turn, how := range []Settlement{Nack, Ack} { // messages that were never read, and messages that are ready
			var all []ID
			next := 0
			for _, want := range tt.want {
				got := f.receive(100)
				require.Lenf(t, got, want, "%v, turn %d", tt.sizes, turn)
				for _, d := range got {
					require.Equal(t, fmt.Sprint("k", next), d.Key)
					next++
					all = append(all, d.ID)
				}
			}
			require.Empty(t, f.receive(100))
			require.NoError(t, f.consumer.Settle(t.Context(), all, how))
		}
	}
}

// TestAMessageThatCannotBeDeliveredTakesNoRoom has a large message wait behind another of its key.
func TestAMessageThatCannotBeDeliveredTakesNoRoom(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	f.send("a")
	_, err := f.Send(t.Context(), Once{}, []Message{{Key: "a", Data: strings.Repeat("x", MaxAnswerBytes)}, {Key: "b", Data: "x"}})
	require.NoError(t, err)
	require.Len(t, f.receive(10), 2)
}

func TestAListOfLargeMessagesComesInPages(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	const size = MaxAnswerBytes / 4
	f.sendSizes(size, size, size, size, size, size, size, size, size, 10)
	for _, desc := range []bool{false, true} {
		want := []int{4, 4, 2}
		var listed, peeked []string
		q := ListQuery{Limit: 100, Desc: desc}
		for range want {
			page, err := f.List(t.Context(), q)
			require.NoError(t, err)
			views, err := f.consumer.Peek(t.Context(), PeekQuery{ListQuery: q})
			require.NoError(t, err)
			require.Len(t, views, len(page))
			require.LessOrEqual(t, len(page), 5)
			for i := range page {
				listed, peeked = append(listed, page[i].Key), append(peeked, views[i].Message.Key)
			}
			q = q.Next(page[len(page)-1].Seq)
		}
		require.Len(t, listed, 10)
		require.Equal(t, listed, peeked)
		rest, err := f.List(t.Context(), q)
		require.NoError(t, err)
		require.Empty(t, rest)
	}
}
