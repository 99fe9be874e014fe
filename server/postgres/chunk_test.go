package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// TestAChunkIsReadAsItWasWritten encodes chunks from which nothing, something and everything was purged.
func TestAChunkIsReadAsItWasWritten(t *testing.T) {
	whole := []store.Message{{Key: "a", Data: "1"}, {Key: "b"}, {Key: "c", Data: strings.Repeat("x", 1000), Headers: "n\x00v\x00"}, {Key: "d", Data: "4"}}
	for i := range whole {
		whole[i].Seq, whole[i].InsertedAt, whole[i].UpdatedAt = int64(7+i), 9, 9
	}
	for name, left := range map[string][]store.Message{
		"whole": whole, "the first is purged": whole[1:], "the last is purged": whole[:3], "one is left": whole[2:3], "none is left": nil,
	} {
		t.Run(name, func(t *testing.T) {
			keys, data, size := encodeLeft(7, left)
			if name == "whole" {
				keys, data, size = encodeChunk(left)
			}
			c, err := decodeChunk(1, 7, len(whole), 9, keys, data)
			require.NoError(t, err)
			require.Equal(t, append([]store.Message{}, left...), c.messages)
			require.Equal(t, size, c.size)
			require.EqualValues(t, 11, c.next())
			for seq := int64(6); seq < 12; seq++ {
				i := slices.IndexFunc(left, func(m store.Message) bool { return m.Seq == seq })
				require.Equal(t, i >= 0, c.message(seq) != nil, seq)
			}
			sizes, err := decodeSizes(1, 7, len(whole), keys, 9)
			require.NoError(t, err)
			for _, m := range sizes {
				require.Equal(t, c.message(m.seq).Size(), m.size)
			}
			require.Len(t, sizes, len(c.from(9)))
		})
	}
}

// FuzzChunk decodes what no program has written. A chunk has only seqs of its row.
func FuzzChunk(f *testing.F) {
	keys, data, _ := encodeChunk([]store.Message{{Key: "a", Data: "1"}, {Key: "b", Data: strings.Repeat("x", 1000)}})
	f.Add(keys, data)
	keys, data, _ = encodeLeft(7, []store.Message{{Seq: 8, Key: "b", Data: "2", Headers: "n\x00v\x00"}})
	f.Add(keys, data)
	f.Fuzz(func(t *testing.T, keys, data []byte) {
		c, err := decodeChunk(1, 7, 2, 9, keys, data)
		if err != nil {
			require.ErrorIs(t, err, store.ErrDamaged)
			return
		}
		require.LessOrEqual(t, len(c.messages), 2)
		for _, m := range c.messages {
			require.True(t, m.Seq >= 7 && m.Seq < c.next())
		}
	})
}
