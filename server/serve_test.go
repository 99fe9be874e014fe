package server_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestEveryRouteNeedsTheToken(t *testing.T) {
	a := newAPI(t, server.Config{Token: "secret"})
	for _, header := range []string{"", "Bearer wrong", "secret", "Basic secret"} {
		got := a.call("GET", "/api/streams", "", "Authorization", header)
		require.Equal(t, http.StatusUnauthorized, got.status)
		require.Contains(t, got.body, `"summary":"Unauthorized`)
		require.Equal(t, http.StatusUnauthorized, a.call("POST", "/api/streams/s/messages", `{`).status)
	}
	require.Equal(t, http.StatusOK, a.call("GET", "/api/streams", "", "Authorization", "Bearer secret").status)
}

func TestAClosedServerAnswers503ToEveryRequest(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.Close()
	a.Close()
	for _, path := range []string{"/api/streams", "/api/streams/s", "/nope"} {
		require.Equal(t, http.StatusServiceUnavailable, a.call("GET", path, "").status)
	}
}

func TestAValidRequestIDIsEchoedAndAnotherIsReplaced(t *testing.T) {
	a := newAPI(t, server.Config{})
	for _, valid := range []string{strings.Repeat("x", 20), strings.Repeat("x", 200)} {
		require.Equal(t, valid, a.call("GET", "/api/streams", "", "X-Request-Id", valid).header.Get("X-Request-Id"))
	}
	for _, other := range []string{"", strings.Repeat("x", 19), strings.Repeat("x", 201)} {
		made := a.call("GET", "/nope", "", "X-Request-Id", other).header.Get("X-Request-Id")
		require.NotEqual(t, other, made)
		require.Len(t, made, 36)
	}
}

// panicReader is a body that makes its handler panic.
type panicReader struct{ value any }

func (r panicReader) Read([]byte) (int, error) { panic(r.value) }

func TestAPanicIsAnswered500AndLogged(t *testing.T) {
	var log bytes.Buffer
	a := newAPI(t, server.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r := httptest.NewRequest("POST", "/api/streams", panicReader{errors.New("broken")})
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Equal(t, `{"errors":{"detail":"Internal Server Error"}}`, w.Body.String())
	require.Contains(t, log.String(), "panic=broken")
	require.Contains(t, log.String(), "path=/api/streams")
}

func TestErrAbortHandlerIsNotRecovered(t *testing.T) {
	a := newAPI(t, server.Config{})
	r := httptest.NewRequest("POST", "/api/streams", panicReader{http.ErrAbortHandler})
	r.Header.Set("Content-Type", "application/json")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { a.ServeHTTP(httptest.NewRecorder(), r) })
}
