package store

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseIDAcceptsUUIDs(t *testing.T) {
	const good = "7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"
	for _, text := range []string{good, strings.ToUpper(good)} {
		id, ok := ParseID([]byte(text))
		require.True(t, ok)
		require.Equal(t, good, id.String())
		require.True(t, id.IsVersion4())
	}
	for _, text := range []string{
		"7b1e4c9e-3a0f-1f0e-9d3a-0f6f2f1d2c3b", "7b1e4c9e-3a0f-7f0e-9d3a-0f6f2f1d2c3b", "7b1e4c9e-3a0f-4f0e-cd3a-0f6f2f1d2c3b",
		"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
	} {
		id, ok := ParseID([]byte(text))
		require.Truef(t, ok, "%s", text)
		require.Equal(t, text, id.String())
		require.Falsef(t, id.IsVersion4(), "%s", text)
	}
	for name, text := range map[string]string{
		"empty": "", "short": good[1:], "long": good + "0", "no dashes": strings.ReplaceAll(good, "-", ""),
		"dash moved": "7b1e4c9-e3a0f-4f0e-9d3a-0f6f2f1d2c3b", "no digit": "g" + good[1:],
	} {
		_, ok := ParseID([]byte(text))
		require.Falsef(t, ok, "%s: %s", name, text)
	}
}

func TestANewIDCanBeParsedAndContainsItsSlot(t *testing.T) {
	source := newIDSource()
	seen := map[ID]bool{}
	for slot := range uint32(1000) {
		id := source.forSlot(slot)
		parsed, ok := ParseID([]byte(id.String()))
		require.True(t, ok)
		require.Equal(t, id, parsed)
		require.Equal(t, slot, parsed.slot())
		require.False(t, seen[id])
		seen[id] = true
	}
	require.NotEqual(t, source.forSlot(1), source.forSlot(1))
}

// TestTheNilIDSettlesNothing settles with the id that a message has before its first delivery.
func TestTheNilIDSettlesNothing(t *testing.T) {
	for _, m := range []*Memory{NewMemory(), NewAug2024()} {
		s, err := m.CreateStream(t.Context(), StreamOptions{Name: "s"})
		require.NoError(t, err)
		c, err := s.CreateConsumer(t.Context(), ConsumerOptions{Name: "c", Filter: ">", ConsumerLimits: ConsumerLimits{AckWait: time.Minute, MaxAckPending: 1}})
		require.NoError(t, err)
		_, err = s.Send(t.Context(), Once{}, []Message{{Key: "a"}})
		require.NoError(t, err)
		require.NoError(t, c.Settle(t.Context(), []ID{{}}, Ack))
		got, err := c.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.Len(t, got, 1)
	}
}
