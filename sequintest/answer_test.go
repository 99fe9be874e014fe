package sequintest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// The server flushes the answer to a receive, to learn whether its client has left.

func TestFlushReachesTheConnection(t *testing.T) {
	behind := httptest.NewRecorder()
	require.NoError(t, http.NewResponseController(&answer{ResponseWriter: behind}).Flush())
	require.True(t, behind.Flushed)
}

func TestFlushOfAHeldAnswerSucceeds(t *testing.T) {
	require.NoError(t, http.NewResponseController(&heldAnswer{header: make(http.Header)}).Flush())
}

// observer calls look at the moment when the client gets a part of the answer.
type observer struct {
	http.ResponseWriter
	look func()
}

func (s observer) WriteHeader(int)             { s.look() }
func (s observer) Write(b []byte) (int, error) { s.look(); return len(b), nil }

func TestARequestIsUpdatedBeforeItsClientGetsTheAnswer(t *testing.T) {
	for name, send := range map[string]func(http.ResponseWriter){
		"header": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) },
		"body":   func(w http.ResponseWriter) { _, _ = w.Write([]byte("{}")) },
	} {
		var r Request
		looked := false
		send(&answer{note: func(add func(*Request)) { add(&r) }, ResponseWriter: observer{look: func() {
			looked = true
			require.NotZero(t, r.Status, name)
			require.False(t, r.ActedAt.IsZero(), name)
			require.Equal(t, name == "body", string(r.Answer) == "{}")
		}}})
		require.True(t, looked)
	}
}
