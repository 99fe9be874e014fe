// Package sequintest runs a Sequin streams server inside a test.
//
// NewServer starts the embedded server of package server and registers its Close with the test. Client returns an HTTP
// client that connects in memory, so that client and server can run in the virtual time of testing/synctest, where an hour
// of retries takes a millisecond. A Fault describes which requests go wrong and how; its FaultHandle counts the requests,
// waits for them and removes the fault. Requests and Stream return copies of what the server received and holds.
//
// The package does not import the sequin client. It serves HTTP, so it does not repeat the client's assumptions.
//
// # Bubbles
//
// Call NewServer inside a synctest bubble with the testing.T of the bubble. The cleanup then runs inside the bubble, and no
// goroutine is left when it ends. Do not use Listen in a bubble: virtual time does not advance while a goroutine waits for
// a real socket.
//
// # Goroutines
//
// NewServer and Listen each start a goroutine that accepts connections. Each connection has a goroutine of its own. Close
// ends all of them.
package sequintest

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sequin-go/sequin/server"
)

// Config configures a Server. The zero value is a server as documented, which needs no token and logs nothing.
type Config struct {
	Compat server.Compat // the behaviour to show; default server.Documented
	Token  string        // the bearer token that requests need; default "", which accepts all requests
	Logger *slog.Logger  // default nil, which logs nothing

	// WithoutExtensions switches extensions off, by the names in the Sequin-Extensions header ("fenced-acks", "parts", "nack-delay", "extend", "attempts", "paging", "bare", "purge", "start", "headers", "end-receive"), as
	// server.Config.WithoutExtensions does. An unknown name fails the test.
	WithoutExtensions []string

	// Store keeps the streams, as server.Config.Store does; default nil: they are kept in memory. Close does not close it. It
	// must be opened in the bubble of the test, if there is one.
	Store server.Store

	// SinksOnly makes the server answer as one that has sinks and no streams, as server.Config.SinksOnly does. See Server.Sink.
	SinksOnly bool

	// KeepRequests is how many of the latest requests the Requests method can return; default 1,000, negative none. Older
	// requests are dropped earlier when all bodies and answers exceed 32 MiB. Count counts all requests.
	KeepRequests int

	// CloseTimeout is how long Close and Down wait for running requests before they report them; default 5 s.
	CloseTimeout time.Duration
}

const (
	defaultKeepRequests = 1000
	defaultCloseTimeout = 5 * time.Second

	// readHeaderTimeout ends a connection on which a request's header stays incomplete.
	readHeaderTimeout = 10 * time.Second
)

// url is valid on the in-memory transport only. RFC 6761 reserves .test, so the name does not resolve elsewhere.
const url, host = "http://sequin.test", "sequin.test:80"

// Server is a running server. All methods may be called concurrently.
type Server struct {
	// URL is the base URL for the connections of Client.
	URL string

	tb        testing.TB
	timeout   time.Duration
	embedded  *server.Server
	http      *http.Server
	network   *network
	listeners *listeners
	faults    *faults
	journal   *journal
	closed    chan struct{} // closed at the end of Close
}

// NewServer starts a server and registers its Close with tb's Cleanup.
func NewServer(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	for _, name := range cfg.WithoutExtensions {
		if known := server.Extensions(); !slices.Contains(known, name) {
			tb.Fatalf("sequintest: Config.WithoutExtensions has %q; the extensions are %s", name, strings.Join(known, ", "))
		}
	}
	if cfg.KeepRequests == 0 {
		cfg.KeepRequests = defaultKeepRequests
	}
	if cfg.CloseTimeout == 0 {
		cfg.CloseTimeout = defaultCloseTimeout
	}
	s := &Server{
		URL: url, tb: tb, timeout: cfg.CloseTimeout,
		embedded: server.New(server.Config{
			Compat: cfg.Compat, Token: cfg.Token, Logger: cfg.Logger, WithoutExtensions: cfg.WithoutExtensions, Store: cfg.Store,
			SinksOnly: cfg.SinksOnly,
		}),
		network: newNetwork(),
		faults:  &faults{},
		journal: &journal{keep: max(cfg.KeepRequests, 0)},
		closed:  make(chan struct{}),
	}
	errorLog := log.New(io.Discard, "", 0)
	if cfg.Logger != nil {
		errorLog = slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelError)
	}
	s.http = &http.Server{
		Handler:           &injector{network: s.network, faults: s.faults, journal: s.journal, next: s.embedded},
		ReadHeaderTimeout: readHeaderTimeout,
		ConnContext:       withConn,
		ConnState:         s.network.observe,
		ErrorLog:          errorLog,
	}
	s.listeners = &listeners{http: s.http, network: s.network}
	s.listeners.serve(s.network)
	tb.Cleanup(s.Close)
	return s
}

// Client returns a new HTTP client that connects in memory to this server only. It has no time-out. Its idle connections
// end with the server's Close.
func (s *Server) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			if addr != host {
				return nil, fmt.Errorf("sequintest: this client connects to %s only, not to %s", s.URL, addr)
			}
			return s.network.dial(ctx)
		},
		DisableCompression:  true, // compression gains nothing in memory
		MaxIdleConnsPerHost: 256,  // the default is 2, and more concurrent requests would dial new connections each time
	}}
}

// Listen serves on a real port of the loopback interface too, for child processes, and returns the URL. Down, Up, faults
// and Requests apply to these connections as well. The port stays the same until Close, and further calls return the same
// URL. Listen fails the test when it cannot get a port or the server is closed.
func (s *Server) Listen() string {
	s.tb.Helper()
	addr, err := s.listeners.listen()
	if err != nil {
		s.tb.Fatalf("sequintest: Listen: %v", err)
	}
	return "http://" + addr
}

// Fault adds a fault. A request meets the first fault that applies to it, in the order in which they were added. An invalid
// fault fails the test at once with Fatalf, so Fault must be called from the test's goroutine.
func (s *Server) Fault(f Fault) *FaultHandle {
	s.tb.Helper()
	e, err := f.effect()
	if err != nil {
		s.tb.Fatalf("sequintest: Fault: %v", err)
	}
	return s.faults.add(f, e)
}

// Stream returns a copy of what the server holds of a stream, found by name or id. ok is false when there is no such
// stream.
func (s *Server) Stream(nameOrID string) (state server.StreamState, ok bool) {
	return s.embedded.Inspect(nameOrID)
}

// Streams returns the names of all streams.
func (s *Server) Streams() []string { return s.embedded.Streams() }

// Sink adds a sink of a table, as server.Server.Sink does: the program commits changes of rows, and clients pull them.
func (s *Server) Sink(name string, o server.SinkOptions) *server.Sink {
	return s.embedded.Sink(name, o)
}

// RestartSinks does to all sinks what a restart of a Sequin server does; see server.Server.RestartSinks. Down and Up break the
// connections.
func (s *Server) RestartSinks() { s.embedded.RestartSinks() }

// Requests returns copies of the latest requests in the order of their arrival, including those that are still running.
// With ops it returns only the requests of these operations. Config.KeepRequests limits how many there are.
func (s *Server) Requests(ops ...Op) []Request { return s.journal.requests(ops) }

// Count returns how many requests of an operation have arrived since the server started; Any counts all requests.
func (s *Server) Count(op Op) int { return s.journal.count(op) }
