package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// wire is a connection to a server.
type wire struct {
	t    *testing.T
	conn io.ReadWriteCloser
	in   *bufio.Reader
}

func newWire(t *testing.T, s *served) *wire {
	t.Helper()
	conn, err := s.listener.dial(t.Context(), "", "")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &wire{t, conn, bufio.NewReader(conn)}
}

// send writes a request. lines are those of its header, each with its end.
func (w *wire) send(method, path, lines, body string) {
	w.t.Helper()
	_, err := fmt.Fprintf(w.conn, "%s %s HTTP/1.1\r\nHost: pipe\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, lines, len(body), body)
	require.NoError(w.t, err)
}

// answer reads an answer.
func (w *wire) answer() *http.Response {
	w.t.Helper()
	resp, err := http.ReadResponse(w.in, nil)
	require.NoError(w.t, err)
	_, err = io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	require.NoError(w.t, resp.Body.Close())
	return resp
}

// requireClosed fails unless the server closes the connection at once, and not as an idle one.
func (w *wire) requireClosed() {
	w.t.Helper()
	began := time.Now()
	_, err := w.in.ReadByte()
	require.Equal(w.t, io.EOF, err)
	require.Zero(w.t, time.Since(began))
}

func TestIn2024TheConnectionEndsAfterA500WithoutNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, serve(t, server.Config{Compat: server.Aug2024}))
		for path, status := range map[string]int{"/api/streams/nope": 404, "/api/nope": 404, "/api/streams/7b1e4c9e3a0f4f0e9d3a0f6f2f1d2c3b": 400} {
			w.send("GET", path, "", "")
			require.Equal(t, status, w.answer().StatusCode, "%s does not end it", path)
		}
		w.send("PUT", "/api/streams/default", "", "{}")
		resp := w.answer()
		require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
		require.False(t, resp.Close, "it has no Connection: close")
		w.requireClosed()
	})
}

func TestIn2024TheRestOfATooLargeBodyIsTakenForARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, serve(t, server.Config{Compat: server.Aug2024}))
		go w.send("POST", "/api/streams/default/messages", "", bodyOfSize(8_000_001))
		resp := w.answer()
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
		require.False(t, resp.Close, "it has no Connection: close")
		require.Equal(t, http.StatusRequestURITooLong, w.answer().StatusCode)
		w.requireClosed()
	})
}

// TestIn2024AnHTTP2ConnectionSurvivesA500 sends two requests by HTTP/2.
func TestIn2024AnHTTP2ConnectionSurvivesA500(t *testing.T) {
	if len(bubbleProtocols) < 2 {
		t.Skip("HTTP/2 does not run in a bubble before Go 1.26")
	}
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{Compat: server.Aug2024})
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		client := s.newClient(t, protocols)
		for _, path := range []string{"default", "default"} {
			r, err := http.NewRequestWithContext(t.Context(), "PUT", "http://pipe/api/streams/"+path, nil)
			require.NoError(t, err)
			resp, err := client.Do(r)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
		}
	})
}

func TestIn2024ARequestHasAtMost50HeaderLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{Compat: server.Aug2024})
		for lines, status := range map[int]int{47: 200, 48: 431} {
			w := newWire(t, s)
			w.send("GET", "/api/streams/default", strings.Repeat("X-Line: x\r\n", lines), "")
			require.Equal(t, status, w.answer().StatusCode, "%d lines and three others", lines)
		}
	})
}

// TestIn2024AChunkedBodyHasNoLimit sends more than the 8,000,000 bytes that another body may have.
func TestIn2024AChunkedBodyHasNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{Compat: server.Aug2024})
		resp, err := s.client.Post("http://pipe/api/streams/default/messages", "application/json", io.MultiReader(strings.NewReader(bodyOfSize(9_000_000))))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	})
}
