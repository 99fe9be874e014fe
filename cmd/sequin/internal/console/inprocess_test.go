package console

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnAnswerThatIsCutOffIsNoAnswer(t *testing.T) {
	w := newWorld(t, false)
	w.console.Use(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data":[`))
		panic(http.ErrAbortHandler)
	}))
	g := w.get("/console/")
	require.Equal(t, http.StatusServiceUnavailable, g.status)
	require.Contains(t, g.body, "The server does not answer")
	require.Contains(t, g.body, "the answer was cut off")
}

func TestWhatNobodyLooksAtIsForgotten(t *testing.T) {
	w := newWorld(t, true)
	now := time.Now()
	first := w.console.of(adminToken, now)
	require.Same(t, first, w.console.of(adminToken, now.Add(keepFor)), "the pages of a token share their rates")
	w.console.of(readToken, now.Add(3*keepFor))
	require.Len(t, w.console.watchers.byToken, 1)
}
