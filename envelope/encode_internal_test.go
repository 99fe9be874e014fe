package envelope

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheMemoryOfALargeEnvelopeIsNotKept(t *testing.T) {
	_, err := Envelope{Payload: bytes.Repeat([]byte("x"), 2*maxBuffer)}.Encode()
	require.NoError(t, err)
	require.LessOrEqual(t, cap(*buffers.Get().(*[]byte)), maxBuffer)
}
