package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// stopping is a server on a listener in memory whose consumers wait in long polls of five minutes.
type stopping struct {
	web      *http.Server
	listener *pipeListener
	client   *http.Client
	served   chan error
	answers  chan string
}

const waiters = 10

// startWaiting serves with web and lets ten receives wait.
func startWaiting(t *testing.T, srv *server.Server, web *http.Server, http2 bool) *stopping {
	t.Helper()
	s := &stopping{web: web, listener: newPipeListener(), served: make(chan error, 1), answers: make(chan string, waiters)}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	s.client = &http.Client{Transport: &http.Transport{DialContext: s.listener.dial, Protocols: protocols}}
	t.Cleanup(s.client.CloseIdleConnections)
	go func() { s.served <- web.Serve(s.listener) }()
	s.wait(t, srv)
	return s
}

// wait lets ten receives wait.
func (s *stopping) wait(t *testing.T, srv *server.Server) {
	t.Helper()
	if _, exists := srv.Inspect("s"); !exists {
		s.post(t, "/api/streams", `{"name":"s"}`)
		s.post(t, "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`)
	}
	for range waiters {
		go func() { s.answers <- s.try("/api/streams/s/consumers/c/receive", `{"wait_for":"5m"}`) }()
	}
	synctest.Wait()
}

// try returns the status and the body of an answer, or the error.
func (s *stopping) try(path, body string) string {
	resp, err := s.client.Post("http://pipe"+path, "application/json", strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode, " ", string(text))
}

func (s *stopping) post(t *testing.T, path, body string) {
	t.Helper()
	require.Contains(t, s.try(path, body), "200 ")
}

// requireAnswered holds that every waiting receive got an empty list.
func (s *stopping) requireAnswered(t *testing.T) {
	t.Helper()
	for range waiters {
		require.Equal(t, `200 {"data":[]}`, <-s.answers)
	}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// ownServer is an http.Server as a program makes it.
func ownServer(handler http.Handler) *http.Server {
	web := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	return web
}

func TestShutdownDoesNotWaitForLongPolls(t *testing.T) {
	for name, newWeb := range map[string]func(*server.Server) *http.Server{
		"HTTPServer":      (*server.Server).HTTPServer,
		"own http.Server": func(srv *server.Server) *http.Server { return ownServer(srv) },
		"behind a mux": func(srv *server.Server) *http.Server {
			mux := http.NewServeMux()
			mux.Handle("/", srv)
			return ownServer(mux)
		},
		"behind StripPrefix": func(srv *server.Server) *http.Server { return ownServer(http.StripPrefix("", srv)) },
	} {
		for _, http2 := range bubbleProtocols {
			t.Run(fmt.Sprintf("%s, http2 %v", name, http2), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := server.New(server.Config{})
					defer srv.Close()
					s := startWaiting(t, srv, newWeb(srv), http2)
					begin := time.Now()
					require.NoError(t, s.web.Shutdown(t.Context()))
					require.Less(t, time.Since(begin), 3*time.Second)
					s.requireAnswered(t)
					require.ErrorIs(t, <-s.served, http.ErrServerClosed)
					require.NoError(t, s.web.Shutdown(t.Context()), "a second Shutdown")
				})
			})
		}
	}
}

// TestShutdownOfOneHTTPServerLeavesTheOthers serves one Server with two http.Servers.
func TestShutdownOfOneHTTPServerLeavesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := server.New(server.Config{})
		defer srv.Close()
		first := startWaiting(t, srv, srv.HTTPServer(), false)
		second := startWaiting(t, srv, ownServer(srv), false)
		require.NoError(t, first.web.Shutdown(t.Context()))
		first.requireAnswered(t)
		synctest.Wait()
		require.Empty(t, second.answers)
		second.post(t, "/api/streams/s/messages", sendBody("a=1"))
		require.Contains(t, <-second.answers, `"data":"1"`)
		require.NoError(t, second.web.Shutdown(t.Context()))
	})
}

// TestARequestThatRunsAtAShutdownIsAnswered holds that only long polls end early: a send may finish.
func TestARequestThatRunsAtAShutdownIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := server.New(server.Config{})
		defer srv.Close()
		s := startWaiting(t, srv, ownServer(srv), false)
		slow, err := s.listener.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer slow.Close()
		body := sendBody("a=1")
		text := fmt.Sprintf("POST /api/streams/s/messages HTTP/1.1\r\nHost: pipe\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		write(t, slow, text[:len(text)-1])
		synctest.Wait() // net/http drops a request whose header it has not read
		done := make(chan error, 1)
		go func() { done <- s.web.Shutdown(t.Context()) }()
		s.requireAnswered(t)
		synctest.Wait()
		require.Empty(t, done, "the send is not complete")
		write(t, slow, text[len(text)-1:])
		require.Contains(t, read(t, slow), `{"data":{"published":1}}`)
		require.NoError(t, <-done)
	})
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

// read returns everything until the end of the connection.
func read(t *testing.T, conn net.Conn) string {
	t.Helper()
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(text)
}

// TestAnHTTPTestServerWaitsForLongPollsUnlessTheServerIsClosedFirst holds what Server.Close says: httptest calls no hook.
func TestAnHTTPTestServerWaitsForLongPollsUnlessTheServerIsClosedFirst(t *testing.T) {
	for closeFirst, want := range map[bool]time.Duration{true: 0, false: 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			srv := server.New(server.Config{})
			defer srv.Close()
			web := &httptest.Server{Listener: newPipeListener(), Config: ownServer(srv)}
			web.Start()
			s := &stopping{listener: web.Listener.(*pipeListener), answers: make(chan string, waiters)}
			s.client = &http.Client{Transport: &http.Transport{DialContext: s.listener.dial}}
			defer s.client.CloseIdleConnections()
			s.wait(t, srv)
			begin := time.Now()
			if closeFirst {
				srv.Close()
			}
			web.Close()
			require.Equal(t, want, time.Since(begin))
			s.requireAnswered(t)
		})
	}
}

// TestAReceiveThatComesLateToItsHandlerDoesNotWait has other code delay the first request until the Shutdown has begun.
func TestAReceiveThatComesLateToItsHandlerDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := server.New(server.Config{})
		defer srv.Close()
		a := &api{t, srv}
		a.withStream("", "")
		gate := make(chan struct{})
		web := srv.HTTPServer()
		web.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-gate
			srv.ServeHTTP(w, r)
		})
		s := startWaiting(t, srv, web, false)
		done := make(chan error)
		go func() { done <- web.Shutdown(t.Context()) }()
		synctest.Wait()
		begin := time.Now()
		close(gate)
		require.NoError(t, <-done)
		require.Less(t, time.Since(begin), time.Second)
		s.requireAnswered(t)
	})
}
