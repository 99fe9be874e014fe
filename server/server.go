// Package server is a Sequin streams server to embed: an http.Handler over streams kept in memory, for programs that want
// a message stream without installing one, and for tests.
//
//	srv := server.New(server.Config{})
//	defer srv.Close()
//	web := srv.HTTPServer()
//	web.Addr = "127.0.0.1:7376"
//	err := web.ListenAndServe()
//
// It answers as Sequin is documented, or, with Compat set to Aug2024, as the server of August 2024 was recorded doing.
// Everything is lost when the process ends.
//
// # Extras
//
// The documented mode knows a little more than the documentation, which a client may use or ignore:
//
//   - A send may carry an Idempotency-Key header: a repeat of one of the stream's last 10,000 successes with the same body
//     is answered as the first was and changes nothing.
//   - Every receive's answer has a Sequin-Waited-Ms header: milliseconds, rounded down, from the request's arrival to the
//     moment at which the leases began.
//   - Deliveries carry deliver_count, and a fresh ack_id each time: settling with an old one succeeds and does nothing.
//   - A nack with "undelivered": true does not count the delivery.
//   - A receive whose client is gone before the answer is written gives its messages back, uncounted.
//
// # Goroutines
//
// None: requests run on the goroutines of the http.Server. A timer runs while a receive waits and a lease is out.
//
// # 100 Continue
//
// The 2024 server never sends it. An http.Server does as soon as a handler reads the body of a request that expects it,
// so this one does too, except before a 413 that the declared length decides.
package server

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Compat selects whose behaviour the server shows.
type Compat int

const (
	// Documented behaves as Sequin's documentation says.
	Documented Compat = iota
	// Aug2024 behaves as the server of August 2024 was recorded doing: no long poll, stream options ignored, one message
	// per key always, batches stored in reverse, ack ids that never change, 500 where that server crashes.
	Aug2024
)

func (c Compat) String() string {
	if c == Aug2024 {
		return "aug2024"
	}
	return "documented"
}

// Config configures a Server. The zero value works.
type Config struct {
	// Compat selects whose behaviour the server shows; default Documented.
	Compat Compat
	// Token is what requests must carry as "Authorization: Bearer TOKEN", else they get 401; default "": no check.
	Token string
	// Logger gets a line for every panic in a handler; default: silent.
	Logger *slog.Logger
}

// Server is the http.Handler. All its methods may be called concurrently.
type Server struct {
	compat    Compat
	token     string
	log       *slog.Logger
	accountID string
	gigabyte  int64 // of max_storage_gb; tests make it smaller
	store     store.Store
	replays   sync.Map // stream id to *replays

	closed atomic.Bool
}

// New returns a server without streams. It starts no goroutine.
func New(cfg Config) *Server {
	s := &Server{
		compat:    cfg.Compat,
		token:     cfg.Token,
		log:       cfg.Logger,
		accountID: uuid.NewString(),
		gigabyte:  1_000_000_000,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.compat == Aug2024 {
		s.store = store.NewAug2024()
	} else {
		s.store = store.NewMemory()
	}
	return s
}

// Close wakes every receive that waits, which answers an empty list. Every later request is answered 503. It does not
// wait for requests that run; http.Server.Shutdown does. It may be called more than once.
func (s *Server) Close() {
	s.closed.Store(true)
	s.store.Close()
}

// HTTPServer returns an http.Server for this handler that clients cannot tie up: who is slow with a request's header is
// cut off, and so is who leaves a connection idle. It speaks HTTP/1 and, to clients that begin with it, HTTP/2. It has
// no ReadTimeout or WriteTimeout, which would end long polls; bodies have a limit of their own.
func (s *Server) HTTPServer() *http.Server {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return srv
}
