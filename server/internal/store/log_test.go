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
