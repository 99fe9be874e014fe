// Package sequintest runs a Sequin streams server inside a test.
//
// NewServer starts the embedded server of package server and cleans up after itself. Its Client dials in memory, so that
// everything, client, server and time, can run inside testing/synctest: an hour of retries takes a millisecond. Faults are
// data: they say which requests go wrong and how, and their handles count, wait and end. Requests and Stream show what the
// server saw and holds, as copies.
//
// The package does not know the sequin client: it serves HTTP, so a wrong assumption of the client is not repeated here.
//
// # Bubbles
//
// In a synctest bubble call NewServer inside it, with the bubble's own testing.T: the clean-up then runs inside as well,
// and no goroutine is left when the bubble ends. Listen is for the world outside: a real socket keeps virtual time from
// moving.
//
// # Goroutines
//
// NewServer starts one goroutine, which accepts connections, and Listen another; each connection has its own while it
// lasts. Close ends all of them.
package sequintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sequin-go/sequin/server"
)

// Config configures a Server. Its zero value is a server as documented, without authentication, that logs nothing.
type Config struct {
	Compat server.Compat // which server's behaviour; default as documented
	Token  string        // the bearer token that requests need; "" takes all
	Logger *slog.Logger  // nil: silent

	// KeepRequests is how many of the latest requests the Requests method can show; default 1,000, negative none. Whatever
	// their number, bodies and answers of more than 32 MiB in all are not kept. Count counts all of them.
	KeepRequests int

	// CloseTimeout is how long Close and Down wait for requests under way before they report who hangs; default 5 s.
	CloseTimeout time.Duration
}

const (
	defaultKeepRequests = 1000
	defaultCloseTimeout = 5 * time.Second

	// readHeaderTimeout is for a client that never ends its header; net/http's documentation asks for one.
	readHeaderTimeout = 10 * time.Second
)

// url is for the in-memory transport alone. RFC 6761 reserves .test: outside of it the name leads nowhere.
const url, host = "http://sequin.test", "sequin.test:80"

// Server is a running server. All methods may be called concurrently.
type Server struct {
	// URL is the base URL for Client's connections.
	URL string

	tb       testing.TB
	timeout  time.Duration
	embedded *server.Server
	http     *http.Server
	network  *network
	faults   faults
	journal  journal

	mu       sync.Mutex // guards all below; held for arithmetic, and for opening or closing the loopback listener
	loopback *loopback  // nil: none, or the server is down
	addr     string     // of the loopback listener, kept over Down
	serving  []chan struct{}
	closing  bool
	closed   chan struct{} // Close has done its work
}

// NewServer starts a server and registers its Close with tb's Cleanup.
func NewServer(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	if cfg.KeepRequests == 0 {
		cfg.KeepRequests = defaultKeepRequests
	}
	if cfg.CloseTimeout == 0 {
		cfg.CloseTimeout = defaultCloseTimeout
	}
	s := &Server{
		URL: url, tb: tb, timeout: cfg.CloseTimeout,
		embedded: server.New(server.Config{Compat: cfg.Compat, Token: cfg.Token, Logger: cfg.Logger}),
		network:  newNetwork(),
		journal:  journal{keep: max(cfg.KeepRequests, 0)},
		closed:   make(chan struct{}),
	}
	errorLog := log.New(io.Discard, "", 0)
	if cfg.Logger != nil {
		errorLog = slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelError)
	}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: readHeaderTimeout,
		ConnContext:       remember,
		ConnState:         s.network.observe,
		ErrorLog:          errorLog,
	}
	s.startLocked(s.network)
	tb.Cleanup(s.Close)
	return s
}

// startLocked serves a listener until that ends.
func (s *Server) startLocked(l net.Listener) {
	ended := make(chan struct{})
	s.serving = append(s.serving, ended)
	go func() {
		defer close(ended)
		_ = s.http.Serve(l) // always an error: that the listener, or the server, was closed
	}()
}

// Client returns an HTTP client with connections of its own, which reaches this server in memory and nothing else. It has
// no time-out. Its idle connections end with the server's Close.
func (s *Server) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			if addr != host {
				return nil, fmt.Errorf("sequintest: this client reaches %s alone, not %s", s.URL, addr)
			}
			return s.network.dial(ctx)
		},
		DisableCompression:  true, // nothing is gained in memory
		MaxIdleConnsPerHost: 256,  // net/http keeps 2: a client with more requests at once would dial for most of them
	}}
}

// Listen serves on a real port of the loopback interface too, for child processes, and returns its URL. Down and Up, faults
// and inspection hold for it as well; the port stays the same. A second call returns the same URL. It fails the test when
// no port can be had or the server is closed.
func (s *Server) Listen() string {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr == "" {
		if err := s.listenLocked("127.0.0.1:0"); err != nil {
			s.tb.Fatalf("sequintest: Listen: %v", err)
		}
		s.addr = s.loopback.Addr().String()
	}
	return "http://" + s.addr
}

func (s *Server) listenLocked(addr string) error {
	if s.closing {
		return errors.New("the server is closed")
	}
	l, err := listenLoopback(addr, s.network)
	if err != nil {
		return err
	}
	s.loopback = l
	s.startLocked(l)
	return nil
}

// Fault sets a fault. Of several, a request meets the one that was set first among those that apply to it. A fault that
// makes no sense fails the test at once, so call it from the test's own goroutine.
func (s *Server) Fault(f Fault) *FaultHandle {
	s.tb.Helper()
	if err := f.check(); err != nil {
		s.tb.Fatalf("sequintest: Fault: %v", err)
	}
	return s.faults.add(f)
}

// Stream returns what the server holds of a stream, by name or id; ok is false when there is none.
func (s *Server) Stream(nameOrID string) (state server.StreamState, ok bool) {
	return s.embedded.Inspect(nameOrID)
}

// Streams returns the names of all streams.
func (s *Server) Streams() []string { return s.embedded.Streams() }

// Requests returns the latest requests in the order of their arrival, those under way included; with ops only these
// operations'. Config.KeepRequests says how many.
func (s *Server) Requests(ops ...Op) []Request { return s.journal.requests(ops) }

// Count returns how many requests of an operation arrived, Any for all, since the beginning.
func (s *Server) Count(op Op) int {
	if op >= opCount {
		return 0
	}
	return int(s.journal.counts[op].Load())
}
