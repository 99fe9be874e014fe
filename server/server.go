// Package server is an embeddable Sequin streams server: an http.Handler over streams in memory, or in a store that
// outlives the process. It is for programs that need a message stream without installing one, and for tests.
//
//	srv := server.New(server.Config{})
//	defer srv.Close()
//	web := srv.HTTPServer()
//	web.Addr = "127.0.0.1:7376"
//	err := web.ListenAndServe() // until web.Shutdown
//
// A Server also works as the handler of a program's own http.Server, beside other handlers. Shutdown of that http.Server
// ends the long polls at once.
//
// It behaves as Sequin is documented. With Compat set to Aug2024 it behaves as the server of August 2024 was recorded.
// All data is lost when the process ends, unless Config.Store says where to keep it.
//
// When the store fails, a request is answered 503 with a summary that says what happened and whether it may be repeated. When
// it is not known whether a change took place, the answer has "outcome":"unknown" beside the summary. When the disk is full,
// sends are answered 409 and all else works.
//
// # Extras
//
// The documented mode has some features beyond the documentation. A client may ignore them:
//
//   - Every answer below /api/streams has a Sequin-Extensions header, which names the extensions of this server:
//     fenced-acks says that an ack id belongs to one delivery, parts that Sequin-Part-Of is read, nack-delay that delay_ms of
//     a nack is, extend that leases can be extended, attempts that deliveries are counted, paging that after_seq and
//     before_seq of a list are read, bare that bare of a receive is, purge that messages can be purged, start that
//     start_from of a new consumer is read, headers that headers of a message are, and end-receive that a receive can be ended.
//   - A send may have an Idempotency-Key header. The server remembers a stream's successful sends of the last 10 minutes by
//     their key, at most the latest million. A repeat with the same body gets the same answer and changes nothing.
//   - A send may have a Sequin-Part-Of header: the Idempotency-Keys of earlier sends, each of which contained all its
//     messages, the nearest first, with commas between them. When the server remembers one of them, the part succeeds
//     without storing anything, and its own key is remembered too. Its "published" is the number of its messages, but at
//     most the "published" of the earlier send.
//   - A send of no messages succeeds and changes nothing.
//   - Every answer to a receive has a Sequin-Waited-Ms header: the milliseconds, rounded down, from the arrival of the
//     request to the moment when the leases began.
//   - A receive with "bare": true leaves out the stream_id and the data_hash of each message. To hash the data takes about an
//     eighth of the time of a receive of large messages.
//   - Deliveries have a deliver_count, and each has a new ack_id. A settle with an old ack_id succeeds and does nothing.
//   - A nack with "undelivered": true does not count the delivery.
//   - A delivery has an expired_count, unless it is 0: how many of the earlier deliveries that deliver_count counts ended with
//     their leases, and were neither settled nor extended. Nobody knows whether a program had seen these.
//   - A nack with "delay_ms" of up to 604,800,000 (7 days) makes the messages available after that many milliseconds, also
//     when the lease would end later. Until then they count toward max_ack_pending, later messages of their keys wait, and
//     peek shows the state "delayed". A message that replaces a delayed one is available at once.
//   - A list of messages and a peek take after_seq and before_seq, and then return only messages with a higher and with a lower
//     seq, in either order.
//   - POST …/consumers/:consumer/extend with {"ack_ids":[…],"ack_wait_ms":30000} makes the leases end that many milliseconds from
//     now, unless they end later. The answer {"data":{"extended":[…]}} has the ack ids whose leases are out. An id that it
//     does not have was settled, or its lease has ended.
//   - POST …/consumers/:consumer/end_receive with {"request_id":"…"} ends the wait of the receive that has this X-Request-Id. The
//     receive is answered at once, with an empty list or with what it has just received. The answer is {"data":{"ended":true}}, or
//     false if no receive of that name waits at this server, for instance because it is answered; one that arrives within a second
//     does not wait. Other servers on the same store do not know of it.
//   - POST …/streams/:stream/purge with {"before_seq":N,"key_pattern":"…"}, of which one may be left out, or with {"all":true},
//     removes the messages with a lower seq whose key matches. The answer is {"data":{"purged":N}}. Leases and delays of the messages
//     end. The other messages keep their seqs, and a repeat of a send restores nothing.
//   - These three routes refuse a member that they do not know, or that is there twice, with 400.
//   - A new consumer may have a "start_from": "beginning", which is the default, "end", a seq, or an RFC 3339 time, and gets no
//     message that is stored before. A seq or a time behind the last message is the end. The consumer shows the seq of the first message
//     that it gets as "start_seq".
//   - A message of a send may have "headers", an object with a string for each name, beside its key and data: at most 64, with
//     names of letters, digits and "_.-", and 16,384 bytes for all names and values together. Receives, lists and peeks show
//     them. They count with the data in storage_size, and 2 bytes for each, and a message with other headers is a modified one.
//   - When the client of a receive is gone before the answer is written, the messages are available again, and the
//     delivery does not count.
//
// # Sinks
//
// Sequin v0.4.11 and later have no streams. Those from v0.6.0 on have sinks, which deliver the changes of the rows of tables.
// Server.Sink adds one to a Server in the documented mode, for tests of programs that pull a sink over HTTP: the answers are
// those that a release of 2026 was recorded to give. Its changes come from the program, and not from Postgres.
//
// # Input
//
// An option of 0 is not set, because some clients send a zero for what their user has not set. Any UUID is a valid ack id. A
// HEAD of a receive leases nothing. The summary of a 422 names the first reason. A body larger than Limits.RequestBytes is
// read before the 413, up to 100 MB and for at most a minute, so that a client that writes the whole body before it reads
// gets the answer. A body needs a Content-Type, and may not be compressed or begin with a byte order mark: the 400 says so.
// A body of another type than JSON, or than a form where one is accepted, is not read. If the request is then refused, the
// summary says so.
//
// # Web pages
//
// Requests of web pages of other origins that change or receive something are answered 403. Config.CORS allows origins.
//
// # Goroutines
//
// The server starts none: requests run on the goroutines of the http.Server. A timer runs while a receive waits and a
// lease is out.
//
// # 100 Continue
//
// The 2024 server never sends 100 Continue. An http.Server sends it when a handler starts to read the body of a request
// that expects it. This server therefore sends it too, except before a 413 for a declared length that is too large.
package server

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Store is the type of Config.Store. Only packages below server implement it, and only a Server calls its methods.
type Store = store.Store

// Config configures a Server. The zero value works.
type Config struct {
	// Compat selects the behaviour of the server; default Documented.
	Compat Compat
	// Token is the token that a request must have as "Authorization: Bearer TOKEN", or it gets 401. Default "": no token
	// is needed.
	Token string
	// Access returns what a token may do, in place of Token, for a server with several tokens; default nil. A request whose
	// token has no rights gets 401, and one that lacks the right for its route gets 403. Access is called once for each
	// request that needs a token, concurrently. It should compare in constant time. New panics when Token is set too.
	Access func(token string) Rights
	// Logger gets a line for every panic in a handler, and for the failures of the store, at most one a minute; default nil:
	// nothing is logged.
	Logger *slog.Logger
	// Store keeps the streams; default nil: they are kept in memory, and lost when the process ends. The value is what the
	// Open function of a package below server returns, such as server/durable. Close does not close it: close it after the
	// Server. New panics when Compat is not Documented, because only the store in memory can be the one of 2024.
	Store Store
	// WithoutExtensions switches extensions of the documented mode off, by the names that Extensions returns; default nil:
	// none. The server then behaves as one that never had them, with one exception: without fenced-acks each delivery still
	// has an ack id of its own, but the server does not say so. New panics on an unknown name.
	WithoutExtensions []string
	// SinksOnly makes the server answer as one that has sinks and no streams, which is what Sequin v0.6.0 and later are: the
	// routes of streams get 404. See Server.Sink.
	SinksOnly bool
	// Limits bound what clients can make the server use. The zero value has the defaults.
	Limits Limits
	// LoopbackOnly refuses requests that may come from elsewhere, for a server on loopback without a token: one whose Host
	// is not loopback, or that has a header of a proxy (Forwarded, X-Forwarded-*, X-Real-Ip, Via), gets 403. Otherwise a
	// tunnel or a proxy would open the server, and so would a web page whose name is resolved to 127.0.0.1.
	LoopbackOnly bool
	// CORS lets web pages of other origins call the server, in each mode; default: none.
	CORS CORS
	// Metrics answers GET /metrics; default nil: that path gets 404. It needs the token as the API does.
	Metrics http.Handler
	// OpenMetrics lets GET /metrics do without the token, unless a proxy has forwarded the request.
	OpenMetrics bool
	// Console answers /console and what is below it; default nil: those paths get 404. It needs no token: it has a login of its
	// own. What is refused of other requests for their Host, their proxy or their origin is refused of its requests, too,
	// whatever CORS allows. Its requests count for Drain, so an answer that goes on, such as one of events, must be ended first.
	Console http.Handler
	// OnRequest is called after the answer to each request, on the goroutine of the request; default nil. It may be called
	// concurrently.
	OnRequest func(RequestInfo)
}

// Server is the http.Handler. All its methods may be called concurrently.
type Server struct {
	dialect   dialect
	token     string
	access    func(token string) Rights // nil for token
	log       *slog.Logger
	gigabyte  int64 // of max_storage_gb; tests make it smaller
	store     store.Store
	ownsStore bool // the store was made by New
	faults    storeLog
	announced []string // the Sequin-Extensions header; empty for none
	parts     bool     // Sequin-Part-Of headers are read
	nackDelay bool     // delay_ms of a nack is read
	extends   bool     // leases can be extended
	attempts  bool     // deliveries are counted
	paging    bool     // after_seq and before_seq of lists are read
	bare      bool     // bare of a receive is read
	purges    bool     // messages can be purged
	starts    bool     // start_from of a new consumer is read
	headers   bool     // headers of messages are read

	endsReceives bool // a receive that waits can be ended

	limits    Limits
	sinks     sinks
	sinksOnly bool

	loopbackOnly bool
	cors         CORS
	metrics      http.Handler
	openMetrics  bool
	console      http.Handler
	onRequest    func(RequestInfo)

	traffic     traffic
	inFlight    budget
	forSettles  budget // for acks and nacks, when inFlight is used up
	waiters     waiters
	endings     endings
	connections connections
	creation    creation

	closed    chan struct{} // closed by Close
	close     sync.Once
	shutdowns shutdowns
	drain     *drain
}

// New returns a server with the streams of its store. It starts no goroutine.
func New(cfg Config) *Server {
	if cfg.Store != nil && cfg.Compat != Documented {
		panic("server: Config.Store cannot be combined with Compat " + cfg.Compat.String() + ": leave Store nil, which keeps the streams in memory")
	}
	if cfg.Token != "" && cfg.Access != nil {
		panic("server: Config.Token and Config.Access exclude each other: set one of them")
	}
	s := &Server{
		dialect:  newDialect(cfg.Compat),
		token:    cfg.Token,
		access:   cfg.Access,
		log:      cfg.Logger,
		gigabyte: 1_000_000_000,
		store:    cfg.Store,
		closed:   make(chan struct{}),

		limits:       cfg.Limits.withDefaults(),
		sinksOnly:    cfg.SinksOnly,
		loopbackOnly: cfg.LoopbackOnly,
		cors:         cfg.CORS,
		metrics:      cfg.Metrics,
		openMetrics:  cfg.OpenMetrics,
		console:      cfg.Console,
		onRequest:    cfg.OnRequest,
		drain:        newDrain(),
	}
	s.cors.check(cfg.Token != "" || cfg.Access != nil)
	orDefault(&s.cors.MaxAge, defaultMaxAge)
	s.inFlight.limit = s.limits.BytesInFlight
	s.forSettles.limit = s.limits.BytesInFlight / settlesShare
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	extensions := s.dialect.extensionsWithout(cfg.WithoutExtensions, cfg.Store)
	if len(extensions) > 0 {
		s.announced = []string{strings.Join(extensions, ", ")}
	}
	s.parts, s.nackDelay = slices.Contains(extensions, parts), slices.Contains(extensions, nackDelay)
	s.extends, s.paging = slices.Contains(extensions, extendLeases), slices.Contains(extensions, paging)
	s.attempts = slices.Contains(extensions, attempts)
	s.bare = slices.Contains(extensions, bareReceives)
	s.purges, s.starts = slices.Contains(extensions, purging), slices.Contains(extensions, starts)
	s.headers = slices.Contains(extensions, messageHeaders)
	s.endsReceives = slices.Contains(extensions, endingReceives)
	if s.store == nil {
		s.store, s.ownsStore = s.dialect.newStore(), true
	}
	for _, name := range s.dialect.streams {
		// A store in memory that is empty refuses no stream.
		_, _ = s.store.CreateStream(context.Background(), store.StreamOptions{Name: name})
	}
	return s
}

// Close wakes every receive that waits, and each answers an empty list. Every later request is answered 503. Close does
// not wait for running requests; http.Server.Shutdown does. It does not close a Config.Store. It may be called more than
// once.
//
// http.Server.Shutdown needs no Close before it: it ends the long polls of its http.Server too, and other requests are
// answered as usual meanwhile. httptest.Server.Close calls no hook. It waits until the long polls end, up to 5 minutes,
// unless the Server is closed first.
func (s *Server) Close() {
	s.close.Do(func() {
		close(s.closed)
		if s.ownsStore {
			_ = s.store.Close() // the store in memory returns nil
		}
	})
}

// HTTPServer returns an http.Server for this handler, with the limits of Config.Limits for connections, headers and idle
// connections. It speaks HTTP/1, HTTP/2 with TLS and, to clients that start with it, HTTP/2 without TLS. It has no
// ReadTimeout and no WriteTimeout, because they would end long polls. The handler itself limits the time for a request body
// to one minute, and that for a large answer.
func (s *Server) HTTPServer() *http.Server {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.limits.HeaderTime,
		IdleTimeout:       s.limits.IdleTime,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		Protocols:         new(http.Protocols),
	}
	s.shutdowns.watch(srv)
	s.connections.limit(srv, s.limits.Connections)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return srv
}
