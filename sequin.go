package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/linelog"
	"github.com/sequin-go/sequin/internal/token"
	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// Version is the version of this library, which is part of the User-Agent. Between releases it ends in "-dev".
const Version = "0.2.0"

// DefaultBaseURL is the server's address if nothing else is set. Its port is that of Sequin's Docker image.
const DefaultBaseURL = "http://localhost:7376"

// Config says how a Client reaches its server. The zero Config works. NewClient copies it; later changes have no effect.
type Config struct {
	// BaseURL is the server's address, with an optional path prefix. Default $SEQUIN_URL, then http://localhost:7376.
	BaseURL string
	// Token is sent as `Authorization: Bearer TOKEN`. It is never logged. Default $SEQUIN_TOKEN, then none.
	Token string
	// TokenSource returns the token, for tokens that expire. The token is kept until Sequin refuses it with 401. Then
	// TokenSource is called again, and the request is retried once with the new token. It runs on a goroutine of its own,
	// one call at a time, with the ctx of the request that needs the token. Requests wait for it until their ctx ends, at most
	// for Timeout; a call that runs on is the only one until it returns. The request fails with an error that wraps that of
	// TokenSource; a Publisher and a Subscriber retry it, a one-shot call does not. A panic counts as an error, which is a
	// *PanicError. TokenSource may not be set together with Token. If it is set, $SEQUIN_TOKEN is not read. Default none.
	TokenSource func(ctx context.Context) (string, error)
	// HTTPClient makes the requests. Its Transport should keep an idle connection for every lane, poller and settle: about
	// 12 for one Publisher and one Subscriber, where http.DefaultTransport keeps 2 a host. Redirects are never followed,
	// whatever its CheckRedirect says. Default a client of the library's own, which keeps enough connections.
	HTTPClient *http.Client
	// Timeout limits each attempt at a request, from the dial to the last byte of the answer; a receive adds its WaitFor.
	// If HTTPClient.Timeout is set, Timeout is at most that, and a WaitFor at most that minus 1 s. Default 30 s.
	Timeout time.Duration
	// Retry says how one-shot calls are retried.
	Retry RetryConfig
	// Logger receives retries, backoffs and errors that Publisher and Subscriber cannot return, the beginning and the end of each
	// outage, and at slog.LevelDebug each attempt at a request. Default none.
	//
	// Its Handler may itself send through the Client. What it sends causes no further lines: neither requests with
	// nothing else, nor failures of these messages. A Handler that passes its lines to another goroutine is not recognised, and
	// must leave out LevelDebug. A Handler that waits for room in a Publisher delays what the Publisher logs, and nothing else.
	Logger *slog.Logger
	// Hooks are called when something happens, for metrics and traces. Default none.
	Hooks *Hooks
	// UserAgent of every request. Default "sequin-go/" and the Version.
	UserAgent string
}

// The environment variables with the server's address, for a Config without BaseURL, and with the token, for one without
// Token and TokenSource.
const (
	urlVariable   = "SEQUIN_URL"
	tokenVariable = "SEQUIN_TOKEN"
)

func (cfg Config) withDefaults() Config {
	if cfg.BaseURL == "" {
		cfg.BaseURL = os.Getenv(urlVariable)
	}
	if cfg.BaseURL == "" {
		cfg.BaseURL = DefaultBaseURL
	}
	if cfg.Token == "" && cfg.TokenSource == nil {
		cfg.Token = os.Getenv(tokenVariable)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "sequin-go/" + Version
	}
	cfg.Retry = cfg.Retry.withDefaults()
	return cfg
}

func (cfg Config) validate() error {
	if cfg.Timeout < 0 {
		return fmt.Errorf("%w: Timeout is %v, must not be negative", ErrInvalidConfig, cfg.Timeout)
	}
	// net/http would refuse such a header in each request, with an error that looks like a broken connection. The token is
	// a secret and is not quoted.
	if !fitsHeader(cfg.Token) {
		return fmt.Errorf("%w: %s contains a control character, for instance the newline at the end of a file", ErrInvalidConfig,
			fieldOr("Token", cfg.Token, tokenVariable))
	}
	if cfg.Token != "" && cfg.TokenSource != nil {
		return fmt.Errorf("%w: Token and TokenSource are both set", ErrInvalidConfig)
	}
	if !fitsHeader(cfg.UserAgent) {
		return fmt.Errorf("%w: UserAgent %q contains a control character", ErrInvalidConfig, cfg.UserAgent)
	}
	return cfg.Retry.validate()
}

// fitsHeader reports whether a header may have that value. RFC 9110 forbids control characters except the tab.
func fitsHeader(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// fieldOr returns the name of a field, and that of the variable too if that has the field's value: the reader of an error may
// not know that it is set.
func fieldOr(field, value, variable string) string {
	if value == os.Getenv(variable) {
		return field + " ($" + variable + ")"
	}
	return field
}

func parseBaseURL(raw string) (*url.URL, error) {
	what := fieldOr("BaseURL", raw, urlVariable)
	u, err := url.Parse(raw)
	var failed *url.Error
	switch {
	case errors.As(err, &failed):
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalidConfig, what, failed.Err) // without raw, which may have a password
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%w: %s %q may have only a scheme, a host, a port and a path", ErrInvalidConfig, what, u.Redacted())
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%w: %s %q must begin with http:// or https://", ErrInvalidConfig, what, raw)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%w: %s %q has no host", ErrInvalidConfig, what, raw)
	case !isPort(u.Port()):
		return nil, fmt.Errorf("%w: %s %q has port %s, must be 1 to 65535", ErrInvalidConfig, what, raw, u.Port())
	}
	return u, nil
}

// isPort reports whether the port of a URL, which is digits or empty, can be dialled. Without this check each request would
// fail as if the server were unreachable. The empty port is the scheme's default.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// idlePerHost is more than the connections of one process: all lanes and pollers that a config accepts, all settles,
// and as many one-shot calls. A smaller pool would close and dial connections under load.
const idlePerHost = 2 * (maxLanes + maxPollers + 2*maxSettles)

// bufferSize is the size of a connection's read and of its write buffer. A batch of 1,000 small messages then takes few
// system calls.
const bufferSize = 64 << 10

const (
	// idleTimeout is less than the 60 s after which common proxies and load balancers close an idle connection. A request
	// that is written just then would be lost.
	idleTimeout = 55 * time.Second
	// A ping is sent on an HTTP/2 connection that has been silent for pingAfter. The connection is closed if it stays silent
	// for pingTimeout more. Together they are less than 15 s, half of the default Timeout, because one such connection
	// carries all requests of a Client.
	pingAfter   = 9 * time.Second
	pingTimeout = 5 * time.Second
)

// newDialer makes the dialer of newTransport. A dial may take as long as an attempt: name lookups, several addresses
// and a TLS handshake over a bad link take seconds. net/http continues a dial whose attempt has ended, and the next
// attempt may use its connection.
func newDialer(timeout time.Duration) *net.Dialer { return &net.Dialer{Timeout: timeout} }

// newTransport makes the transport of a Client without an HTTPClient.
func newTransport(timeout time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         transport.Dial(newDialer(timeout)),
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConnsPerHost: idlePerHost,
		IdleConnTimeout:     idleTimeout,
		TLSHandshakeTimeout: timeout,
		WriteBufferSize:     bufferSize,
		ReadBufferSize:      bufferSize,
	}
}

// RetryConfig says how a one-shot call is retried. Publisher and Subscriber use the same waits, without a limit of attempts.
type RetryConfig struct {
	// MaxAttempts is the largest number of attempts at one call, including the first; 1 means no retries. Default 4. A
	// call to a server that refuses connections ends within 2 s, however many attempts are left.
	MaxAttempts int
	// MinWait is the wait after the first attempt. The wait doubles after each further attempt, up to MaxWait; the actual
	// wait is random, between half of that and all of it. Defaults 100 ms and 5 s. A Retry-After of the server is followed
	// up to MaxWait.
	MinWait, MaxWait time.Duration
}

func (r RetryConfig) withDefaults() RetryConfig {
	if r.MaxAttempts == 0 {
		r.MaxAttempts = 4
	}
	// If only one of the waits is set, the default of the other must not contradict it.
	switch minWait, maxWait := 100*time.Millisecond, 5*time.Second; {
	case r.MinWait == 0 && r.MaxWait == 0:
		r.MinWait, r.MaxWait = minWait, maxWait
	case r.MinWait == 0:
		r.MinWait = min(minWait, r.MaxWait)
	case r.MaxWait == 0:
		r.MaxWait = max(maxWait, r.MinWait)
	}
	return r
}

func (r RetryConfig) validate() error {
	switch {
	case r.MaxAttempts < 1:
		return fmt.Errorf("%w: Retry.MaxAttempts is %d, must be at least 1", ErrInvalidConfig, r.MaxAttempts)
	case r.MinWait <= 0 || r.MaxWait < r.MinWait:
		return fmt.Errorf("%w: Retry.MinWait %v and MaxWait %v, must be 0 < MinWait <= MaxWait", ErrInvalidConfig, r.MinWait, r.MaxWait)
	}
	return nil
}

// wait returns how long to wait after the n-th failure in a row (n from 0). It is random, so that clients that failed
// together do not all retry at the same time.
func (r RetryConfig) wait(n int, cause error) time.Duration {
	d := r.MaxWait
	if n < 63 && r.MinWait<<n>>n == r.MinWait { // otherwise MinWait<<n overflows
		d = min(r.MinWait<<n, r.MaxWait)
	}
	d = d/2 + rand.N(d/2+1)
	var api *APIError
	if errors.As(cause, &api) {
		// MaxWait limits a Retry-After too: a server that asks for an hour must not stop a producer for an hour.
		d = max(d, min(api.retryAfter, r.MaxWait))
	}
	return d
}

// The largest numbers of requests that a Publisher and a Subscriber may have in flight. They are here because idlePerHost
// depends on them.
const (
	maxLanes   = 64 // 64,000 messages in flight; with more, the server is the limit
	maxPollers = 64 // 64,000 messages asked for
	maxSettles = 64 // acks, and as many nacks: one for each poller
)

// Client calls a Sequin server. It is safe for concurrent use. It starts no goroutine but that of Config.TokenSource. Make one
// and share it.
//
// Besides the errors named by its comment, every method may return an [*APIError] for an answer other than success,
// ErrUnreachable if no connection could be made, and an error without a name if the answer was lost or is not Sequin's.
// If ctx ends first, the error wraps ctx.Err() and context.Cause(ctx), together with the error of the attempt before.
type Client struct {
	cfg   Config // with defaults
	base  *url.URL
	http  *http.Client    // without a Timeout: each attempt has its own
	limit time.Duration   // the Timeout of the caller's HTTPClient; 0 without one
	own   *http.Transport // made by NewClient; nil if the caller set Config.HTTPClient

	peer  *transport.Peer
	hooks *hooks // nil without Config.Hooks
	log   *linelog.Log

	tokens token.Cache // of Config.TokenSource; without a Source if there is none
	// announced has the extensions that the server listed in its latest answer with a list.
	announced atomic.Uint32
	answered  atomic.Bool // a request has succeeded: a server without a list has no extensions

	// repeatsKeys says whether the server accepts two messages with the same key in one request; nil until it was asked.
	repeatsKeys atomic.Pointer[bool]

	maxResponse int64 // smaller in tests
}

// maxResponse limits what is read of one answer. It is room for 1,000 messages of 250 KB. The server itself has no limit
// below 1,000 messages of 8,000,000 bytes.
const maxResponse = 256 << 20

// NewClient returns a Client for cfg. It makes no request. The error is ErrInvalidConfig; its text names the field, its
// value and what is allowed.
func NewClient(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	base, err := parseBaseURL(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	assumed := 1 // HTTP/2 is rare without TLS and usual with TLS
	if base.Scheme == "https" {
		assumed = 2
	}
	c := &Client{cfg: cfg, base: base, peer: transport.NewPeer(assumed), maxResponse: maxResponse, log: linelog.New(cfg.Logger)}
	c.hooks = newHooks(cfg.Hooks, c.log)
	if cfg.TokenSource != nil {
		c.tokens.Source = recovering(cfg.TokenSource)
	}
	if cfg.HTTPClient == nil {
		c.own = newTransport(cfg.Timeout)
		cfg.HTTPClient = &http.Client{Transport: c.own}
	}
	hc := *cfg.HTTPClient
	if hc.Transport == nil {
		hc.Transport = http.DefaultTransport
	}
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.limit, hc.Timeout = max(0, hc.Timeout), 0
	if c.limit > 0 {
		c.cfg.Timeout = min(c.cfg.Timeout, c.limit)
	}
	c.http = &hc
	return c, nil
}

// callbackGrace is how long a Close waits for OnAckError and for the log. It is longer than most writes of a log take.
const callbackGrace = time.Second

// handlerGrace is how long a stop waits for handlers to return after their contexts have ended. It is enough for a rollback,
// and not for more work.
const handlerGrace = time.Second

// Close closes the idle connections that the Client made itself. Those of Config.HTTPClient stay open. Close waits up to a second
// for the lines of requests in the log. Close Publishers and Subscribers first. A Client may be used after Close; it then makes new
// connections.
func (c *Client) Close() {
	written, cancel := context.WithTimeout(context.Background(), callbackGrace)
	defer cancel()
	c.log.Await(written)
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// recovering returns a TokenSource whose panic is an error. The goroutines of a Publisher and of a Subscriber call it, too, and
// must not end the program.
func recovering(source func(context.Context) (string, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (token string, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = recovered("TokenSource", v)
			}
		}()
		return source(ctx)
	}
}

// authorize sets the token in the header of a request.
func authorize(h http.Header, token string) {
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
}

// token returns the token of the next request. It asks Config.TokenSource if none is known.
func (c *Client) token(ctx context.Context) (string, error) {
	if c.tokens.Source == nil {
		return c.cfg.Token, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("no token within %v", c.cfg.Timeout))
	defer cancel()
	token, err := c.tokens.Get(ctx)
	if err == nil && !fitsHeader(token) {
		c.tokens.Refuse(token)
		return "", errors.New("the token contains a control character, for instance the newline at the end of a file")
	}
	return token, err
}

// extensions returns what the server has announced; none before its first answer.
func (c *Client) extensions() wire.Extensions { return wire.Extensions(c.announced.Load()) }

// learnExtensions reads the list in the header of an answer. An answer without a list, a proxy's for instance, changes
// nothing.
func (c *Client) learnExtensions(h http.Header) {
	if announced, listed := wire.AnnouncedBy(h); listed && c.extensions() != announced {
		c.announced.Store(uint32(announced))
	}
}
