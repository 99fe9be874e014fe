package sequin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/sequin-go/sequin/internal/transport"
)

// request is one call of the API before it meets the wire.
type request struct {
	method         string
	path           string // below BaseURL, its elements escaped
	query          url.Values
	body           *transport.Payload // nil sends none
	idempotencyKey string
	wait           time.Duration // how long the server may hold the answer back, on top of Config.Timeout
	timeout        time.Duration // instead of Config.Timeout; 0 is that
	repeat         repeat
	onAnswer       func() // called when an answer begins to arrive; may be nil
}

// maxResponse bounds what is read of one answer: 1,000 messages of 250 KB. Only the messages that a server can hold
// limit an answer otherwise: 1,000 of 8,000,000 bytes.
const maxResponse = 256 << 20

// do is the one way to the server. It makes the attempts that r.repeat allows, each with a timeout, a request id and a
// body of its own, reads and drains the answer, and calls decode with a 2xx answer's header and body; the body is valid
// only during that call. A decode that fails counts as a lost answer: what the server did is as unknown.
func (c *Client) do(ctx context.Context, r request, decode func(h http.Header, body []byte) error) error {
	target := *c.base
	target.RawPath = strings.TrimSuffix(c.base.EscapedPath(), "/") + r.path
	target.Path, _ = url.PathUnescape(target.RawPath) // of escaped elements only: it cannot fail
	target.RawQuery = r.query.Encode()
	body := r.body
	if body == nil {
		body = new(transport.Payload)
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, r.method, target.String(), nil)
	if err == nil {
		err = req.SetBody(body.Reader)
	}
	if err != nil {
		return fmt.Errorf("sequin: %s %s: %w", r.method, r.path, err)
	}
	// With it, net/http would by itself re-send a GET, or a request that has an Idempotency-Key. For all others it serves
	// those alone of which nothing was written, because their connection turned out to be closed.
	if r.method == http.MethodGet || r.idempotencyKey != "" {
		req.GetBody = nil
	}
	c.setHeader(req.Header, r)
	if ctx.Err() != nil {
		// Not left to net/http, which would ask for no connection, like a RoundTripper that tells nothing.
		return &connError{method: r.method, path: r.path, baseURL: c.cfg.BaseURL, cut: true, cause: ended(ctx)}
	}

	attempts := transport.Attempts{RoundTripper: c.http.Transport, Body: body, Timeout: c.cfg.Timeout, OnAnswer: r.onAnswer}
	if r.timeout > 0 {
		attempts.Timeout = r.timeout
	}
	if attempts.Timeout += r.wait; c.limit > 0 {
		attempts.Timeout = min(attempts.Timeout, c.limit)
	}
	hc := *c.http
	hc.Transport = &attempts
	lost := func(cause error) error { return c.lost(ctx, r, cause, body.Sent(), attempts.Untrusted()) }
	l := loop{ctx: ctx, retry: c.cfg.Retry, repeat: r.repeat, lost: lost, attempts: &attempts, logger: c.cfg.Logger}
	err = l.run(&hc, req, func(resp *http.Response) error {
		return c.readAnswer(resp, r, req.Header.Get("X-Request-Id"), lost, decode)
	})
	// The latest attempt alone decides: those before it were repeated because the server surely had not acted.
	if err != nil && r.repeat == ifNotActed && mayHaveActed(l.last) {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
}

// lost makes the error of an attempt that got no complete answer.
func (c *Client) lost(ctx context.Context, r request, cause error, sent, stranger bool) error {
	dial, cut := isDial(cause) || stranger, ctx.Err() != nil
	e := &connError{method: r.method, path: r.path, baseURL: c.cfg.BaseURL, cause: cause, dial: dial && !cut, cut: cut,
		sent: sent && !dial && !cutShort(cause)}
	if cut {
		e.cause = ended(ctx)
	}
	return e
}

func (c *Client) setHeader(h http.Header, r request) {
	h.Set("Accept", "application/json")
	h.Set("User-Agent", c.cfg.UserAgent)
	h.Set("X-Request-Id", uuid.NewString())
	if r.body != nil {
		h.Set("Content-Type", "application/json")
	}
	if c.cfg.Token != "" {
		h.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	if r.idempotencyKey != "" {
		h.Set("Idempotency-Key", r.idempotencyKey)
	}
}

// maxErrorBody bounds what is read of an answer that is no success: Sequin's own are under 1 KB, and a validation error
// for each of 1,000 messages would still fit.
const maxErrorBody = 1 << 20

// bodies keeps the bodies of sends, acks and nacks for reuse.
var bodies transport.Bodies

// readAnswer reads the status first, so that no body can hide it, and the body within its cap.
func (c *Client) readAnswer(resp *http.Response, r request, requestID string, lost func(error) error, decode func(http.Header, []byte) error) error {
	defer resp.Body.Close()
	limit := c.maxResponse
	if resp.StatusCode/100 != 2 {
		limit = maxErrorBody
	}
	answer, err := transport.ReadAnswer(resp, limit)
	defer answer.Release()
	switch {
	case resp.StatusCode/100 != 2: // a body that cannot be read costs the summary, never the status
		return newAPIError(r, requestID, resp, answer.Bytes())
	case errors.Is(err, transport.ErrTooLong):
		return fmt.Errorf("%w: %s %s answered more than %d bytes", ErrResponseTooLarge, r.method, r.path, c.maxResponse)
	case err != nil:
		return lost(err)
	}
	if err := decode(resp.Header, answer.Bytes()); err != nil {
		return &connError{method: r.method, path: r.path, baseURL: c.cfg.BaseURL, sent: true, unreadable: true,
			cause: fmt.Errorf("its answer, %d, is not Sequin's: %w", resp.StatusCode, err)}
	}
	return nil
}

// path joins elements to a path below BaseURL, each escaped, so that a name with a slash stays one element.
func path(elements ...string) string {
	var b strings.Builder
	for _, e := range elements {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(e))
	}
	return b.String()
}
