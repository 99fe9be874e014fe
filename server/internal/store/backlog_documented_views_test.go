package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPeekListsWhatIsNotSettled(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	f.send("a", "b", "a", "c")
	require.NoError(t, f.consumer.Settle(t.Context(), []ID{f.receive(2)[1].ID}, Ack)) // a is on lease, b acked
	f.send("d", "d")
	yes, no := true, false
	peek := func(q PeekQuery) (out []string) {
		for _, v := range must(f.consumer.Peek(t.Context(), q)) {
			out = append(out, v.Message.Key+[]string{" available", " delivered", " withheld", " acked"}[v.State])
		}
		return out
	}
	all := []string{"a delivered", "a withheld", "c available", "d available", "d withheld"}
	require.Equal(t, all, peek(PeekQuery{ListQuery: ListQuery{Limit: 9}}))
	require.Equal(t, []string{"c available", "d available"}, peek(PeekQuery{ListQuery{Limit: 9}, &yes}))
	require.Equal(t, []string{"a delivered", "a withheld", "d withheld"}, peek(PeekQuery{ListQuery{Limit: 9}, &no}))
	require.Equal(t, []string{"d withheld", "d available"}, peek(PeekQuery{ListQuery: ListQuery{Limit: 2, Desc: true}}))
	require.Equal(t, []string{"c available"}, peek(PeekQuery{ListQuery: ListQuery{Limit: 2, Pattern: "c"}}))
	require.Equal(t, []string{"a withheld", "c available"}, peek(PeekQuery{ListQuery: ListQuery{Limit: 9, After: 1, Before: 5}}))
	require.Equal(t, []string{"c available", "a withheld"}, peek(PeekQuery{ListQuery: ListQuery{Limit: 2, Before: 5, Desc: true}}))
	f.receive(10) // now everything is read: the result is the same but for the new leases
	require.Equal(t, []string{"a delivered", "a withheld", "c delivered", "d delivered", "d withheld"}, peek(PeekQuery{ListQuery: ListQuery{Limit: 9}}))
}

func TestStatesDescribeTheNewestMessageOfTheKey(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	state := func() State {
		t.Helper()
		_, views, err := f.States(t.Context(), "a")
		require.NoError(t, err)
		require.Len(t, views, 1)
		return views[0].State
	}
	f.send("a")
	require.Equal(t, Available, state())
	got := f.receive(1)
	require.Equal(t, Delivered, state())
	f.send("a")
	require.Equal(t, Withheld, state())
	require.NoError(t, f.consumer.Settle(t.Context(), []ID{got[0].ID}, Ack))
	require.Equal(t, Available, state())
	require.NoError(t, f.consumer.Settle(t.Context(), []ID{f.receive(1)[0].ID}, Ack))
	require.Equal(t, Acked, state())
	_, _, err := f.States(t.Context(), "b")
	require.Equal(t, ErrNoMessage, err)
}
