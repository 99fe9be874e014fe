//go:build !race

// With the race detector a sync.Pool drops some of what it gets.

package envelope_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/envelope"
)

func TestAnEnvelopeOfWordsTakesOneAllocation(t *testing.T) {
	e := envelope.Envelope{Metadata: map[string]string{"c": "3", "b": "2", "a": "1"}, Payload: []byte("hello, world")}
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = e.Encode() }), 1.0, "the text")
}
