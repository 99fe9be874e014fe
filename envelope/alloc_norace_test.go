//go:build !race

// With the race detector a sync.Pool drops some of what it gets.

package envelope_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/envelope"
)

// Nothing is made for the order of a few names, for their checks, or to find out that words are not JSON.
func TestAnEnvelopeOfWordsTakesOneAllocation(t *testing.T) {
	e := envelope.Envelope{Metadata: map[string]string{"c": "3", "b": "2", "a": "1"}, Payload: []byte("hello, world")}
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = e.Encode() }), 1.0, "the text")
}
