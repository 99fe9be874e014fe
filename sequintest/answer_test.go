package sequintest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// The server flushes what it hands out, to learn whether its client is still there.

func TestAFlushReachesTheConnection(t *testing.T) {
	behind := httptest.NewRecorder()
	require.NoError(t, http.NewResponseController(&answer{ResponseWriter: behind}).Flush())
	require.True(t, behind.Flushed)
}

func TestAFlushOfAHeldAnswerSucceeds(t *testing.T) {
	require.NoError(t, http.NewResponseController(&heldAnswer{header: make(http.Header)}).Flush())
}
