package postgres

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// newChunk returns a chunk of n messages.
func newChunk(stream, first int64, n int) *chunk {
	c := &chunk{stream: stream, first: first, n: n}
	for i := range n {
		c.messages = append(c.messages, store.Message{Seq: first + int64(i)})
	}
	return c
}

// TestTheCacheFindsTheChunkOfASeq also holds that the oldest chunks make room, in whatever order they came.
func TestTheCacheFindsTheChunkOfASeq(t *testing.T) {
	c := newChunkCache(4 * newChunk(1, 1, 10).cost())
	now := func() int64 { return 0 }
	a, b, other, last := newChunk(1, 31, 10), newChunk(1, 11, 10), newChunk(2, 15, 10), newChunk(1, 41, 10)
	c.add(moment{}, now, a, b, other, last, newChunk(1, 31, 10))
	for seq, want := range map[int64]*chunk{10: nil, 11: b, 15: b, 20: b, 21: nil, 30: nil, 31: a, 40: a, 41: last, 50: last, 51: nil} {
		require.Same(t, want, c.find(1, seq), seq)
	}
	require.Same(t, other, c.find(2, 24))
	require.Nil(t, c.find(2, 14))
	require.Nil(t, c.find(3, 15))

	next := newChunk(1, 51, 10)
	c.add(moment{}, now, next)
	require.Nil(t, c.find(1, 31), "the oldest")
	require.Same(t, b, c.find(1, 20))
	require.Same(t, next, c.find(1, 60))
	c.purged(1, 1)
	require.Nil(t, c.find(1, 20))
	require.Same(t, other, c.find(2, 24))
	require.Equal(t, other.cost(), c.bytes)
	c.add(moment{}, now, b)
	require.Nil(t, c.find(1, 20), "it was read before the purge")
	c.add(moment{purges: 1}, func() int64 { return 1 }, b)
	require.Nil(t, c.find(1, 20), "it was read before a restart")
	c.clear()
	require.Nil(t, c.find(2, 24))
	require.Zero(t, c.bytes)
}

// TestReceivesOfLessThanAChunkReadItOnce damages the chunk when it has been read. Nothing but the cache can deliver it then, and
// a receive at the end of the stream reads nothing.
func TestReceivesOfLessThanAChunkReadItOnce(t *testing.T) {
	quiet := Options{Schema: newSchema(t), cleanEvery: -1, moveEvery: -1}
	sender, reader, late := openWith(t, quiet), openWith(t, quiet), openWith(t, quiet)
	s, _ := newConsumer(t, sender, store.StreamOptions{})
	var messages []store.Message
	for i := range 10 {
		messages = append(messages, store.Message{Key: fmt.Sprint("k", i)})
	}
	_, err := s.Send(t.Context(), store.Once{}, messages)
	require.NoError(t, err)
	_, c := onReplica(t, reader)
	for i := range 10 {
		got, err := c.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.EqualValues(t, i+1, got[0].Seq)
		if i == 0 {
			execute(t, "update "+sender.schema+".chunks set data = 'x'")
		}
	}
	got, err := c.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Empty(t, got)

	damaged, _ := onReplica(t, late)
	_, err = damaged.List(t.Context(), store.ListQuery{Limit: 1})
	require.ErrorIs(t, err, store.ErrDamaged)
}

// TestAReplicaReadsLittleOfAConsumerThatOthersServe has a replica that is alone read on in the stream, and one that is not read
// the chunk that it needs. It still gets what is in many chunks.
func TestAReplicaReadsLittleOfAConsumerThatOthersServe(t *testing.T) {
	quiet := Options{Schema: newSchema(t), cleanEvery: -1, moveEvery: -1}
	sender, first, second := openWith(t, quiet), openWith(t, quiet), openWith(t, quiet)
	s, _ := newConsumer(t, sender, store.StreamOptions{})
	const chunks = 30
	for i := range chunks {
		_, err := s.Send(t.Context(), store.Once{}, []store.Message{{Key: fmt.Sprint("k", i)}})
		require.NoError(t, err)
	}
	stream := s.(*stream).row.id
	receive := func(st *Store, n int) (seqs []int64) {
		_, c := onReplica(t, st)
		got, err := c.Receive(t.Context(), n, nil)
		require.NoError(t, err)
		for _, d := range got {
			seqs = append(seqs, d.Seq)
		}
		return seqs
	}
	require.Equal(t, []int64{1}, receive(first, 1))
	require.NotNil(t, first.chunks.find(stream, readChunks), "it knows of no other replica")
	require.Len(t, receive(second, 10), 10)
	require.Equal(t, []int64{12}, receive(first, 1))
	require.NotNil(t, first.chunks.find(stream, 12))
	require.Nil(t, first.chunks.find(stream, 13), "the second may lease it before")
	require.Len(t, receive(first, chunks), chunks-12)
	require.Empty(t, receive(second, chunks))
}
