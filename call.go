package sequin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// request is one call of the API.
type request struct {
	method         string
	id             string // its X-Request-Id; "" for a new one
	path           string // below BaseURL, with escaped elements; see path
	query          url.Values
	body           *transport.Payload // nil sends none
	idempotencyKey string
	partOf         []string      // the Idempotency-Keys of sends that contain all messages of this one, nearest first
	wait           time.Duration // how long the server may delay the answer, on top of the timeout
	timeout        time.Duration // of each attempt; 0 means Config.Timeout
	retry          retryPolicy
	onAnswer       func()              // called when an answer begins to arrive; may be nil
	onHeader       func(h http.Header) // called with the header of an answer of any status; may be nil
	observed       *observed           // its attempts, for Hooks; do sets it

	// For Hooks and the log: how many messages it has or asks for, how many its answer has (nil for none), and the names of a
	// Subscriber, whose path has an id. quiet says that the log has no line about it.
	messages         int
	got              func() int
	stream, consumer string
	quiet            bool
}

// do makes one call of the API. Every request of a Client uses it. It makes the attempts that r.retry allows. All attempts
// have the same request id and body; each has its own timeout. do calls decode with the header and body of a 2xx answer; the
// body is valid only during that call. After an error of decode the server may have acted.
func (c *Client) do(ctx context.Context, r request, decode func(h http.Header, body []byte) error) error {
	body := r.body
	if body == nil {
		body = new(transport.Payload)
	}
	if ctx.Err() != nil {
		// net/http would return without asking for a connection, as a RoundTripper that calls no trace does.
		return c.connError(r, kindInterrupted, false, contextError(ctx))
	}
	var ends time.Time // when the call must have ended, zero if only its attempts are limited
	if r.timeout > 0 && c.tokens.Source != nil {
		ends = time.Now().Add(c.attemptTimeout(r))
	}
	token, err := c.token(ctx)
	attempts := transport.Attempts{RoundTripper: c.http.Transport, Peer: c.peer, Body: body, Timeout: c.attemptTimeout(r), OnAnswer: r.onAnswer}
	if err == nil {
		err = leaveTime(&attempts, ends)
	}
	if err != nil {
		return c.noToken(ctx, r.method, r.path, nil, err)
	}
	req, err := c.newRequest(ctx, r, token)
	if err != nil {
		return fmt.Errorf("sequin: %s %s: %w", r.method, r.path, err)
	}
	r.quiet = r.quiet || c.log.Calls()
	if r.observed = c.observe(ctx, r, req.Header.Get("X-Request-Id")); r.observed != nil {
		attempts.OnStart = r.observed.start
	}
	hc := *c.http
	hc.Transport = &attempts
	lost := func(cause error) error {
		if body.Handshaking() && errors.Is(cause, context.DeadlineExceeded) {
			cause = fmt.Errorf("the TLS handshake does not end: %w", cause)
		}
		return c.lost(ctx, r, cause, body.Connected(), body.Sent())
	}
	l := retryLoop{ctx: ctx, client: c, request: req, token: token, retry: r.retry, lost: lost, attempts: &attempts, ends: ends, observed: r.observed}
	if !r.quiet {
		info := r.info("")
		l.logged = info.attrs()
	}
	err = l.run(&hc, func(resp *http.Response) error {
		c.learnExtensions(resp.Header)
		err := c.readAnswer(resp, r, req.Header.Get("X-Request-Id"), lost, decode)
		if err != nil {
			attempts.Reuse(!classify(err).spoilsConnection())
		} else if !c.answered.Load() {
			c.answered.Store(true)
		}
		r.observed.done(resp.StatusCode, err)
		return err
	})
	if err != nil && l.outcomeUnknown() {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
}

// info describes the request to Hooks.
func (r request) info(id string) RequestInfo {
	i := RequestInfo{Messages: r.messages, RequestID: id}
	i.Op, i.Stream, i.Consumer = transport.Operation(r.method, r.path)
	if r.consumer != "" {
		i.Stream, i.Consumer = r.stream, r.consumer
	}
	if r.body != nil {
		i.Bytes = len(r.body.JSON)
	}
	return i
}

// observe returns what observes a request, nil if nothing does.
func (c *Client) observe(ctx context.Context, r request, id string) *observed {
	logs := !r.quiet && c.log.Enabled(ctx, slog.LevelDebug)
	if !logs && !c.hooks.observesRequests() {
		return nil
	}
	return &observed{hooks: c.hooks, lines: c.log, info: r.info(id), got: r.got, logs: logs, ctx: ctx}
}

// newRequest makes the HTTP request of r, with its header. Attempts adds the body.
func (c *Client) newRequest(ctx context.Context, r request, token string) (*retryablehttp.Request, error) {
	target := *c.base
	target.RawPath = strings.TrimSuffix(c.base.EscapedPath(), "/") + r.path
	target.Path, _ = url.PathUnescape(target.RawPath) // cannot fail: all elements are escaped
	target.RawQuery = r.query.Encode()
	req, err := retryablehttp.NewRequestWithContext(ctx, r.method, target.String(), nil)
	if err != nil {
		return nil, err
	}
	h := req.Header
	h.Set("Accept", "application/json")
	h.Set("User-Agent", c.cfg.UserAgent)
	if r.id == "" {
		r.id = uuid.NewString()
	}
	h.Set("X-Request-Id", r.id)
	if r.body != nil {
		h.Set("Content-Type", "application/json")
	}
	authorize(h, token)
	if r.idempotencyKey != "" {
		h.Set("Idempotency-Key", r.idempotencyKey)
	}
	if len(r.partOf) > 0 {
		h.Set("Sequin-Part-Of", strings.Join(r.partOf, ", "))
	}
	return req, nil
}

// attemptTimeout returns the timeout of each attempt at r. It is at most the Timeout of the caller's http.Client.
func (c *Client) attemptTimeout(r request) time.Duration {
	timeout := c.cfg.Timeout
	if r.timeout > 0 {
		timeout = r.timeout
	}
	if timeout += r.wait; c.limit > 0 {
		timeout = min(timeout, c.limit)
	}
	return timeout
}

// lost makes the error of an attempt without a complete answer. connected says that the attempt may have had a connection,
// and sent that the whole request may have been written.
func (c *Client) lost(ctx context.Context, r request, cause error, connected, sent bool) error {
	noConnection := isDial(cause) || !connected
	sent = sent && !noConnection && !isWrite(cause)
	switch {
	case ctx.Err() != nil:
		return c.connError(r, kindInterrupted, sent, contextError(ctx))
	case noConnection:
		return c.connError(r, kindUnreachable, sent, cause)
	}
	return c.connError(r, kindLost, sent, cause)
}

func (c *Client) connError(r request, kind failureKind, sent bool, cause error) error {
	return &connError{method: r.method, path: r.path, baseURL: c.cfg.BaseURL, kind: kind, sent: sent, cause: cause}
}

// maxErrorBody limits what is read of an answer other than success. Sequin's own answers have less than 1 KB. An answer with
// a validation error for each of 1,000 messages fits, too.
const maxErrorBody = 1 << 20

// bodies keeps the bodies of sends, acks and nacks for reuse.
var bodies transport.Bodies

// readAnswer reads an answer and returns nil or its error. lost makes the error of an answer that is incomplete.
func (c *Client) readAnswer(resp *http.Response, r request, requestID string, lost func(error) error, decode func(http.Header, []byte) error) error {
	defer resp.Body.Close()
	if r.onHeader != nil {
		r.onHeader(resp.Header)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols { // the body is the connection, and does not end
		return newAPIError(r.method, r.path, requestID, resp, nil)
	}
	success, limit := resp.StatusCode/100 == 2, c.maxResponse
	if !success {
		limit = maxErrorBody
	}
	answer, err := transport.ReadAnswer(resp, limit)
	defer answer.Release()
	r.observed.read(len(answer.Bytes()))
	switch {
	case !success: // even if the body could not be read: the status is known
		return newAPIError(r.method, r.path, requestID, resp, answer.Bytes())
	case errors.Is(err, transport.ErrTooLong) && !beginsLikeSequins(answer.Bytes()):
		return newUnreadableError(r.method, r.path, requestID, resp, answer.Bytes(), fmt.Errorf("it has more than %d bytes", c.maxResponse))
	case errors.Is(err, transport.ErrTooLong):
		return fmt.Errorf("%w: the answer to %s %s has more than %d bytes", ErrResponseTooLarge, r.method, r.path, c.maxResponse)
	case err != nil:
		return lost(err)
	}
	if err := decode(resp.Header, answer.Bytes()); err != nil {
		return c.unreadable(r, requestID, resp, answer.Bytes(), err)
	}
	return nil
}

// unreadable makes the error of a 2xx answer that decode did not accept. An answer that begins like Sequin's was damaged
// after the server had acted. Any other one is foreign: a login page, an empty body, the JSON of another server.
func (c *Client) unreadable(r request, requestID string, resp *http.Response, body []byte, why error) error {
	if !json.Valid(body) && beginsLikeSequins(body) {
		return c.connError(r, kindUnreadable, true, fmt.Errorf("status %d, %w", resp.StatusCode, why))
	}
	return newUnreadableError(r.method, r.path, requestID, resp, body, why)
}

// beginsLikeSequins reports whether a body may be the beginning of Sequin's answer, which is a JSON object with fields.
func beginsLikeSequins(body []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(body), []byte(`{"`)) }

// path joins elements to a path below BaseURL. It escapes each element, so that a name may contain a slash.
func path(elements ...string) string {
	var b strings.Builder
	for _, e := range elements {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(e))
	}
	return b.String()
}

// call makes a request and decodes the object of its answer. in is encoded as the request's JSON; nil sends no body. A
// read is retried after any retryable failure, except an answer which suggests that the URL is wrong. Any other request
// is retried only if the server surely did not act.
func call[T any, A answerOf[T]](ctx context.Context, c *Client, method, path string, in any) (*T, error) {
	r := request{method: method, path: path, retry: ifNotActed}
	if method == http.MethodGet {
		r.retry = unlessUnserved
	}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("sequin: %s %s: %w", method, path, err)
		}
		r.body = &transport.Payload{JSON: body}
	}
	return decoded[T, A](ctx, c, r)
}

// callOnce makes one attempt at a read. Its caller retries it.
func callOnce[T any, A answerOf[T]](ctx context.Context, c *Client, path string) (*T, error) {
	return decoded[T, A](ctx, c, request{method: http.MethodGet, path: path, retry: neverRetry})
}

// list makes a read and returns the list of its answer, {"data":[…]}.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	got, err := decoded[data[rows[T]]](ctx, c, request{method: http.MethodGet, path: path, query: query, retry: unlessUnserved})
	if err != nil {
		return nil, err
	}
	return *got.Data, nil
}

// answerOf is a pointer to T that decodeJSON accepts.
type answerOf[T any] interface {
	*T
	checkedAnswer
}

// decoded makes a request and decodes its answer.
func decoded[T any, A answerOf[T]](ctx context.Context, c *Client, r request) (*T, error) {
	out := new(T)
	if err := c.do(ctx, r, decodeJSON(A(out))); err != nil {
		return nil, err
	}
	return out, nil
}

// checkedAnswer is an answer, or an element of one, that can check whether it is Sequin's. Without the check, the JSON of
// another server would decode into zero values without an error.
type checkedAnswer interface{ complete() error }

// decodeJSON decodes an answer into v. It ignores unknown fields, which newer servers may send.
func decodeJSON(v checkedAnswer) func(http.Header, []byte) error {
	return func(_ http.Header, body []byte) error {
		if err := json.Unmarshal(body, v); err != nil {
			return err
		}
		return v.complete()
	}
}

// data is an answer of the form {"data":…}. An answer without the field is not Sequin's, and must not count as an empty list
// of messages.
type data[T any] struct {
	Data *T `json:"data"`
}

func (d *data[T]) complete() error {
	if d.Data == nil {
		return wire.RequireField(false, "data")
	}
	if inner, ok := any(d.Data).(checkedAnswer); ok {
		return inner.complete()
	}
	return nil
}

// rows is the list in a data answer.
type rows[T any] []T

func (r *rows[T]) complete() error {
	for i := range *r {
		if row, ok := any(&(*r)[i]).(checkedAnswer); ok {
			if err := row.complete(); err != nil {
				return fmt.Errorf("row %d of its list: %w", i, err)
			}
		}
	}
	return nil
}

// deleted is the answer to a delete.
type deleted struct{ Deleted bool }

func (d *deleted) complete() error { return wire.RequireField(d.Deleted, "deleted") }

// looseTime is a time in an answer. If it cannot be read it is zero, without an error.
type looseTime struct{ time.Time }

func (t *looseTime) UnmarshalJSON(text []byte) error {
	t.Time = wire.ParseTime(text)
	return nil
}
