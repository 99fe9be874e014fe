package server_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestHealthNeedsNoToken(t *testing.T) {
	for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
		a := newAPI(t, server.Config{Compat: compat, Token: "secret", LoopbackOnly: true})
		for _, path := range []string{"/healthz", "/readyz"} {
			for _, method := range []string{"GET", "HEAD"} {
				got := a.call(method, path, "")
				require.Equal(t, http.StatusOK, got.status)
				require.Equal(t, `{"status":"ok"}`, got.body)
			}
			require.NotEqual(t, http.StatusOK, a.call("POST", path, "{}").status)
		}
	}
}

func TestAClosedServerIsAliveAndNotReady(t *testing.T) {
	a := newAPI(t, server.Config{})
	a.Close()
	require.Equal(t, http.StatusOK, a.call("GET", "/healthz", "").status)
	got := a.call("GET", "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Contains(t, got.body, `"summary":`)
}

// TestAServerIsNotReadyWhileItsHTTPServerShutsDown has other code delay the request until the Shutdown has begun.
func TestAServerIsNotReadyWhileItsHTTPServerShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := server.New(server.Config{})
		defer srv.Close()
		web := srv.HTTPServer()
		gate := make(chan struct{})
		web.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" {
				<-gate
			}
			srv.ServeHTTP(w, r)
		})
		s := startWaiting(t, srv, web, false)
		status := make(chan int, 1)
		go func() {
			resp, err := s.client.Get("http://pipe/readyz")
			if err == nil {
				_ = resp.Body.Close()
				status <- resp.StatusCode
			}
		}()
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- web.Shutdown(t.Context()) }()
		s.requireAnswered(t)
		close(gate)
		require.Equal(t, http.StatusServiceUnavailable, <-status)
		require.NoError(t, <-done)
	})
}

func TestDrainAnswersWhatRunsAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := server.New(server.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		defer srv.Close()
		s := startWaiting(t, srv, srv.HTTPServer(), false)
		defer s.web.Close()
		slow, err := s.listener.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer slow.Close()
		body := sendBody("a=1")
		write(t, slow, fmt.Sprintf("POST /api/streams/s/messages HTTP/1.1\r\nHost: pipe\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:1]))
		synctest.Wait()

		drained := make(chan error, 1)
		go func() { drained <- srv.Drain(t.Context()) }()
		s.requireAnswered(t)
		synctest.Wait()
		require.Empty(t, drained, "a send runs")
		require.Contains(t, s.try("/api/streams/s/messages", sendBody("b=2")), "503 ")
		resp := get(t, s.client, "/readyz")
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Equal(t, "1", resp.Header.Get("Retry-After"))
		require.True(t, resp.Close)

		write(t, slow, body[1:])
		require.Contains(t, read(t, slow), `{"data":{"published":1}}`, "and the connection is closed after it")
		require.NoError(t, <-drained)
		require.NoError(t, srv.Drain(t.Context()), "a second Drain")
		require.Equal(t, []string{"a=1"}, messages(t, &api{t, srv}))
		require.Empty(t, log.String(), "a stop is no failure")
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := server.New(server.Config{})
		defer srv.Close()
		s := startWaiting(t, srv, srv.HTTPServer(), false)
		defer s.web.Close()
		slow, err := s.listener.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer slow.Close()
		write(t, slow, "POST /api/streams HTTP/1.1\r\nHost: pipe\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.EqualError(t, srv.Drain(ctx), "1 requests still run: context deadline exceeded")
		s.requireAnswered(t)
	})
}
