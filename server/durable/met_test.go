package durable

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// TestAHotKeyHoldsNoOthersUp sends 500 messages of a key whose first one is on lease, where 20 are kept. Others are
// delivered, and an operator is told once. Then the messages of the key come in order.
func TestAHotKeyHoldsNoOthersUp(t *testing.T) {
	var log bytes.Buffer
	o := Options{maxMet: 20, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	inBubble(t, o, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("hot"))
		_, first := f.receive(1)
		for i := range 500 {
			require.NoError(f, f.send("hot"))
			if i%100 == 99 {
				require.NoError(f, f.send(fmt.Sprint("other-", i)))
			}
		}
		keys, ids := f.receive(3)
		require.Equal(f, []string{"other-99", "other-199", "other-299"}, keys)
		require.NoError(f, f.consumer.Settle(f.Context(), ids, store.Ack))
		keys, ids = f.receive(100)
		require.Equal(f, []string{"other-399", "other-499"}, keys)
		require.NoError(f, f.consumer.Settle(f.Context(), append(ids, first...), store.Ack))
		require.Equal(f, 1, strings.Count(log.String(), "key=hot"), log.String())
		c := f.stream.(*streamHandle).stream().consumers[0]
		require.LessOrEqual(f, c.backlog.Met(), 20)

		f.reopen(true)
		state, err := f.consumer.State(f.Context())
		require.NoError(f, err)
		require.Equal(f, 1, state.Available)
		last := int64(1)
		for range 500 {
			got, err := f.consumer.Receive(f.Context(), 100, nil)
			require.NoError(f, err)
			require.Len(f, got, 1)
			require.Greater(f, got[0].Seq, last)
			last = got[0].Seq
			require.NoError(f, f.consumer.Settle(f.Context(), []store.ID{got[0].ID}, store.Ack))
		}
		keys, _ = f.receive(1)
		require.Empty(f, keys)
	})
}

// TestAReceiveReadsAtMostAnAnswerAtOnce leases a message whose key has more messages than fit into an answer, and damages the
// last one. A receive that still has room answers before it reads so far.
func TestAReceiveReadsAtMostAnAnswerAtOnce(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		const n = 2 * store.MaxAnswerBytes / largeRun
		for i := range n {
			f.sendData(f.stream, "hot", fmt.Sprint(strings.Repeat("x", largeRun), i))
		}
		damage(f, f.fs, fmt.Sprint("x", n-1))
		keys, _ := f.receive(2)
		require.Equal(f, []string{"hot"}, keys)
		_, err := f.consumer.Receive(f.Context(), 1, nil)
		require.ErrorIs(f, err, store.ErrDamaged, "the next one reads on, because no message is available")
	})
}
