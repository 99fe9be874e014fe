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

// seen looks at a request at the moment when its client gets something of the answer.
type seen struct {
	http.ResponseWriter
	look func()
}

func (s seen) WriteHeader(int)             { s.look() }
func (s seen) Write(b []byte) (int, error) { s.look(); return len(b), nil }

func TestWhatBecameOfARequestIsNotedBeforeItsClientKnows(t *testing.T) {
	for name, send := range map[string]func(http.ResponseWriter){
		"header": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) },
		"body":   func(w http.ResponseWriter) { _, _ = w.Write([]byte("{}")) },
	} {
		var r Request
		looked := false
		send(&answer{note: func(add func(*Request)) { add(&r) }, ResponseWriter: seen{look: func() {
			looked = true
			require.NotZero(t, r.Status, name)
			require.False(t, r.ActedAt.IsZero(), name)
			require.Equal(t, name == "body", string(r.Answer) == "{}")
		}}})
		require.True(t, looked)
	}
}
