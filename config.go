package sequin

import (
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

// DefaultBaseURL is where a Sequin server listens when nothing else is said: the port of Sequin's own docker image.
const DefaultBaseURL = "http://localhost:7376"

// Config is how a Client reaches its server. The zero Config works. It is copied: changing it after NewClient changes nothing.
type Config struct {
	// BaseURL is the server's address, with an optional path prefix. Default $SEQUIN_URL, then http://localhost:7376.
	BaseURL string
	// Token is sent as `Authorization: Bearer TOKEN`. Default none.
	Token string
	// HTTPClient makes the requests. Default a client of our own, with as many idle connections as the parts of this
	// library use at once. Redirects are never followed, whatever its CheckRedirect says. Its Transport should keep
	// idle connections for lanes, pollers and settles together (about 12 for one Publisher and one Subscriber;
	// http.DefaultTransport keeps 2 a host).
	HTTPClient *http.Client
	// Timeout bounds each attempt, from dialling to the last byte of the answer; a receive adds its WaitFor. Default
	// 30 s. Where HTTPClient.Timeout is set, Timeout is at most that, and a WaitFor at most that minus 1 s.
	Timeout time.Duration
	// Retry says how one-shot calls are repeated.
	Retry RetryConfig
	// Logger is told about repeats, back-offs and what the background parts cannot return. Default silent.
	Logger *slog.Logger
	// UserAgent of every request. Default "sequin-go/" and the version.
	UserAgent string
}

// urlVariable is the environment variable that names the server where Config does not.
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
	// net/http refuses such a header with each request, which would look like trouble on the way to the server. The
	// token is not quoted: it is a secret.
	if !fitsHeader(cfg.Token) {
		return fmt.Errorf("%w: Token holds a control character, such as the newline at the end of a file", ErrInvalidConfig)
	}
	if !fitsHeader(cfg.UserAgent) {
		return fmt.Errorf("%w: UserAgent %q holds a control character", ErrInvalidConfig, cfg.UserAgent)
	}
	return cfg.Retry.validate()
}

// fitsHeader reports whether a header may have that value: RFC 9110 excludes control characters but the tab.
func fitsHeader(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

func parseBaseURL(raw string) (*url.URL, error) {
	what := "BaseURL"
	if raw == os.Getenv(urlVariable) {
		what = "BaseURL ($" + urlVariable + ")" // whoever reads the error may never have heard of the variable
	}
	u, err := url.Parse(raw)
	var failed *url.Error
	switch {
	case errors.As(err, &failed):
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalidConfig, what, failed.Err) // without raw, which may hold a password
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%w: %s %q may hold a scheme, a host, a port and a path only", ErrInvalidConfig, what, u.Redacted())
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%w: %s %q must begin with http:// or https://", ErrInvalidConfig, what, raw)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%w: %s %q names no host", ErrInvalidConfig, what, raw)
	case !isPort(u.Port()):
		return nil, fmt.Errorf("%w: %s %q names port %s, must be 1 to 65535", ErrInvalidConfig, what, raw, u.Port())
	}
	return u, nil
}

// isPort reports whether a URL's port, which is digits or empty, can be dialled: to find that out with each request would
// look like a server that is away. Empty is the scheme's own.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// idlePerHost is above all connections that one process should hold: the most lanes and pollers that a config accepts
// (64 and 16), four settles, and as many one-shot calls again. A smaller pool closes and dials under load.
const idlePerHost = 2 * (maxLanes + maxPollers + 4)

// bufferSize of a connection, each way: large enough that a batch of 1,000 small messages takes few system calls.
const bufferSize = 64 << 10

// newTransport is the transport of a Client that brings none.
func newTransport(timeout time.Duration) *http.Transport {
	// Half of an attempt at most: the end of the attempt would hide that it was the dial which hung.
	reach := min(unreachableFor, timeout/2)
	dialer := net.Dialer{Timeout: reach}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: idlePerHost,
		IdleConnTimeout:     90 * time.Second, // as http.DefaultTransport
		TLSHandshakeTimeout: reach,
		WriteBufferSize:     bufferSize,
		ReadBufferSize:      bufferSize,
	}
}
