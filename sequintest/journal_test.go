package sequintest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func request(body int) *Request { return &Request{Op: Send, Body: make([]byte, body)} }

func TestTheJournalCountsTheBytesThatItKeeps(t *testing.T) {
	j := journal{keep: 2}
	answer := func(e *entry, size int) {
		j.note(e, func(r *Request) { r.Answer = append(r.Answer, make([]byte, size)...) })
	}
	first := j.begin(request(1))
	second := j.begin(request(10))
	answer(first, 40)
	answer(first, 60)
	require.Equal(t, 111, j.bytes)

	third := j.begin(request(1000)) // drops the first
	require.Equal(t, 1010, j.bytes)
	j.begin(request(1)) // drops the second, which is still running
	answer(second, 100)
	require.Equal(t, 1001, j.bytes)

	answer(third, maxKeptBytes) // more than the journal may keep
	require.Equal(t, 1, j.bytes)
	require.Len(t, j.requests(nil), 1)
	require.EqualValues(t, 4, j.counts[Any].Load())
}
