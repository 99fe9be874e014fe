package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReplacedMessagesAreRemovedFromTheLog replaces one of two keys a thousand times.
func TestReplacedMessagesAreRemovedFromTheLog(t *testing.T) {
	f := newFixture(t, StreamOptions{OneMessagePerKey: true, ProcessUnmodified: true}, ConsumerLimits{})
	f.send("cold")
	for range 1_000 {
		f.send("hot")
	}
	l := &f.Stream.(*stream).log
	require.Less(t, len(l.entries), 3*minGarbage)
	require.Equal(t, 2, l.live)
	got := f.receive(10)
	require.Equal(t, []string{"cold", "hot"}, []string{got[0].Key, got[1].Key})
}

func TestListReturnsWhatTheQueryAsksFor(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	f.send("a.1", "b.1", "a.2", "b.2", "a.3")
	keys := func(q ListQuery) (out []string) {
		for _, m := range must(f.List(t.Context(), q)) {
			out = append(out, m.Key)
		}
		return out
	}
	require.Equal(t, []string{"a.1", "b.1"}, keys(ListQuery{Limit: 2}))
	require.Equal(t, []string{"a.3", "b.2"}, keys(ListQuery{Limit: 2, Desc: true}))
	require.Equal(t, []string{"a.1", "a.2", "a.3"}, keys(ListQuery{Limit: 5, Pattern: "a.*"}))
	require.Equal(t, []string{"b.2", "b.1"}, keys(ListQuery{Limit: 5, Pattern: "b.>", Desc: true}))
	require.Equal(t, []string{"b.1", "a.2"}, keys(ListQuery{Limit: 5, After: 1, Before: 4}))
	require.Equal(t, []string{"a.2", "b.1"}, keys(ListQuery{Limit: 2, Before: 4, Desc: true}))
	require.Equal(t, []string{"a.3"}, keys(ListQuery{Limit: 2, After: 4}))
	require.Empty(t, keys(ListQuery{Limit: 5, After: 5}))
	require.Empty(t, keys(ListQuery{Limit: 5, Before: 1}))
	require.Empty(t, keys(ListQuery{Limit: 5, After: 4, Before: 2}))
}
