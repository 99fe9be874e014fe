package sequin

import (
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/token"
	"github.com/sequin-go/sequin/internal/transport"
)

// Client calls a Sequin server. It is safe for concurrent use. It starts no goroutine. Make one and share it.
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

	peer *transport.Peer

	tokens token.Cache // of Config.TokenSource; without a Source if there is none
	// announced has the extensions that the server listed in its latest answer with a list.
	announced atomic.Uint32

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
	assumed := 1 // HTTP/2 without TLS is rare, and with TLS it is what most servers speak
	if base.Scheme == "https" {
		assumed = 2
	}
	c := &Client{cfg: cfg, base: base, peer: transport.NewPeer(assumed), maxResponse: maxResponse}
	c.tokens.Source = cfg.TokenSource
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

// Close closes the idle connections that the Client made itself. Those of Config.HTTPClient stay open. Close Publishers
// and Subscribers first. A Client may be used after Close; it then makes new connections.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// extensions are the additions to the documented API that a server has announced. A Client uses what the server knows, and
// nothing before it has seen an answer.
type extensions struct {
	fencedAcks bool // an ack id belongs to one delivery, so that a repeated ack settles nothing else
	parts      bool // Sequin-Part-Of is known
}

// The bits of Client.announced.
const (
	fencedAcksBit = 1 << iota
	partsBit
)

func (c *Client) extensions() extensions {
	bits := c.announced.Load()
	return extensions{fencedAcks: bits&fencedAcksBit != 0, parts: bits&partsBit != 0}
}

// learnExtensions reads the list in the header of an answer. An answer without a list, a proxy's for instance, changes
// nothing.
func (c *Client) learnExtensions(h http.Header) {
	lists := h["Sequin-Extensions"]
	if len(lists) == 0 {
		return
	}
	var bits uint32
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			switch strings.TrimSpace(name) {
			case "fenced-acks":
				bits |= fencedAcksBit
			case "parts":
				bits |= partsBit
			}
		}
	}
	if c.announced.Load() != bits {
		c.announced.Store(bits)
	}
}
