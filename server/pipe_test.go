package server_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sequin-go/sequin/server"
)

// pipeListener accepts connections that are dialed in memory, so that a whole server runs inside synctest.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, srv := net.Pipe()
	select {
	case l.conns <- srv:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// served is a Server behind net/http, reached through memory.
type served struct {
	*server.Server
	listener *pipeListener
	http     *http.Server
	client   *http.Client
}

// serve starts a server and stops it at the end of the test, inside a bubble.
func serve(t *testing.T, cfg server.Config) *served {
	t.Helper()
	s := &served{
		Server:   server.New(cfg),
		listener: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	s.http = s.HTTPServer()
	s.client = s.newClient(t, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.http.Serve(s.listener)
	}()
	t.Cleanup(func() {
		s.Close()
		s.client.CloseIdleConnections()
		_ = s.http.Close()
		<-done
		// After an answer that came before the request's end net/http keeps a connection for half a second.
		time.Sleep(time.Second)
	})
	return s
}

// newClient returns a client that speaks the given protocols, HTTP/1 by default.
func (s *served) newClient(t *testing.T, protocols *http.Protocols) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: s.listener.dial, Protocols: protocols, ExpectContinueTimeout: time.Hour}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
