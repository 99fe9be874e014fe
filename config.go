package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Version is the version of this library, which is part of the User-Agent. Between releases it ends in "-dev".
const Version = "0.1.0-dev"

// DefaultBaseURL is the server's address if nothing else is set. Its port is that of Sequin's Docker image.
const DefaultBaseURL = "http://localhost:7376"

// Config says how a Client reaches its server. The zero Config works. NewClient copies it; later changes have no effect.
type Config struct {
	// BaseURL is the server's address, with an optional path prefix. Default $SEQUIN_URL, then http://localhost:7376.
	BaseURL string
	// Token is sent as `Authorization: Bearer TOKEN`. Default none.
	Token string
	// TokenSource returns the token, for tokens that expire. The token is kept until Sequin refuses it with 401; then
	// TokenSource is asked again, and the request is repeated once with what it returns. It is called by one goroutine at a
	// time, with the ctx of the request that needs the token, and has Timeout to return. Its error fails the request and is
	// wrapped. It may not be set together with Token. Default none.
	TokenSource func(ctx context.Context) (string, error)
	// HTTPClient makes the requests. Its Transport should keep an idle connection for every lane, poller and settle: about
	// 12 for one Publisher and one Subscriber, where http.DefaultTransport keeps 2 a host. Redirects are never followed,
	// whatever its CheckRedirect says. Default a client of the library's own, which keeps enough connections.
	HTTPClient *http.Client
	// Timeout limits each attempt at a request, from the dial to the last byte of the answer; a receive adds its WaitFor.
	// If HTTPClient.Timeout is set, Timeout is at most that, and a WaitFor at most that minus 1 s. Default 30 s.
	Timeout time.Duration
	// Retry says how one-shot calls are repeated.
	Retry RetryConfig
	// Logger receives repeats, backoffs and errors that Publisher and Subscriber cannot return. Default none.
	Logger *slog.Logger
	// UserAgent of every request. Default "sequin-go/" and the Version.
	UserAgent string
}

// urlVariable is the environment variable with the server's address, for a Config without BaseURL.
const urlVariable = "SEQUIN_URL"

func (cfg Config) withDefaults() Config {
	if cfg.BaseURL == "" {
		cfg.BaseURL = os.Getenv(urlVariable)
	}
	if cfg.BaseURL == "" {
		cfg.BaseURL = DefaultBaseURL
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
	// net/http would refuse such a header in each request, which would look like a broken connection. The token is a
	// secret and is not quoted.
	if !fitsHeader(cfg.Token) {
		return fmt.Errorf("%w: Token contains a control character, for instance the newline at the end of a file", ErrInvalidConfig)
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

func parseBaseURL(raw string) (*url.URL, error) {
	what := "BaseURL"
	if raw == os.Getenv(urlVariable) {
		what = "BaseURL ($" + urlVariable + ")" // the reader of the error may not know the variable
	}
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

// The largest numbers of requests that a Publisher and a Subscriber may have in flight. They are here because idlePerHost
// depends on them.
const (
	maxLanes   = 64 // 64,000 messages in flight; with more, the server is the limit
	maxPollers = 16
)

// idlePerHost is more than the connections of one process: all lanes and pollers that a config accepts, four settles, and
// as many one-shot calls. A smaller pool would close and dial connections under load.
const idlePerHost = 2 * (maxLanes + maxPollers + 4)

// bufferSize is the size of a connection's read and of its write buffer. A batch of 1,000 small messages then takes few
// system calls.
const bufferSize = 64 << 10

const (
	// idleTimeout is less than the 60 s after which common proxies and load balancers close an idle connection. A request
	// that is written just then would be lost.
	idleTimeout = 55 * time.Second
	// A HTTP/2 connection that has been silent for pingAfter is probed, and closed if it stays silent for pingTimeout more.
	// Together they are less than 15 s, half of the default Timeout. Such a connection carries all requests of a Client.
	pingAfter   = 9 * time.Second
	pingTimeout = 5 * time.Second
)

// newTransport makes the transport of a Client without an HTTPClient. A connection may take as long as an attempt: name
// lookups, several addresses and a TLS handshake over a bad link take seconds. net/http goes on with a dial whose attempt
// has ended, so that the next attempt may find it done.
func newTransport(timeout time.Duration) *http.Transport {
	dialer := net.Dialer{Timeout: timeout}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConnsPerHost: idlePerHost,
		IdleConnTimeout:     idleTimeout,
		TLSHandshakeTimeout: timeout,
		WriteBufferSize:     bufferSize,
		ReadBufferSize:      bufferSize,
	}
}
