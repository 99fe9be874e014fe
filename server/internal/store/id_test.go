package store

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseIDAcceptsUUIDsOfVersion4Only(t *testing.T) {
	const good = "7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"
	for _, text := range []string{good, strings.ToUpper(good)} {
		id, ok := ParseID([]byte(text))
		require.True(t, ok)
		require.Equal(t, good, id.String())
	}
	for name, text := range map[string]string{
		"empty": "", "short": good[1:], "long": good + "0", "no dashes": strings.ReplaceAll(good, "-", ""),
		"dash moved": "7b1e4c9-e3a0f-4f0e-9d3a-0f6f2f1d2c3b", "no digit": "g" + good[1:],
		"version 1": "7b1e4c9e-3a0f-1f0e-9d3a-0f6f2f1d2c3b", "other variant": "7b1e4c9e-3a0f-4f0e-cd3a-0f6f2f1d2c3b",
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
