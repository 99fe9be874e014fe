package backlog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOfMetMessagesTheNewestOfAKeyIsKept has a stream that does not know which of its messages are replaced.
func TestOfMetMessagesTheNewestOfAKeyIsKept(t *testing.T) {
	b := New(&fakeStream{}, Limits{AckWait: 30, MaxAckPending: 9})
	b.KeepNewest()
	lease := Lease{1, 1}
	b.Receive(&Receive{Lease: lease, Length: 30, Next: 2, Fresh: []Message{{1, keyOf(0)}}}, nil)
	for seq := int64(2); seq < 9; seq++ {
		b.Receive(&Receive{Lease: lease, Next: seq + 1, Met: []Message{{seq, keyOf(0)}}}, nil)
	}
	require.Equal(t, 1, b.Met())
	seq, onLease, ok := b.Head(keyOf(0))
	require.Equal(t, []any{int64(1), true, true}, []any{seq, onLease, ok})
	_, _, ok = b.Head(keyOf(1))
	require.False(t, ok)

	b.Settle([]Delivery{{1, lease}}, Ack, 1, 0)
	seq, onLease, ok = b.Head(keyOf(0))
	require.Equal(t, []any{int64(8), false, true}, []any{seq, onLease, ok})
	states := map[int64]State{}
	b.Heads(func(seq int64, s State) { states[seq] = s })
	require.Equal(t, map[int64]State{8: Available}, states)
}
