package sequin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-retryablehttp"
)

// request is one call of the API before it meets the wire.
type request struct {
	method         string
	path           string // below BaseURL, its elements escaped
	query          url.Values
	body           *payload // nil sends none
	idempotencyKey string
	wait           time.Duration // how long the server may hold the answer back, on top of Config.Timeout
	timeout        time.Duration // instead of Config.Timeout; 0 is that
	repeat         repeat
}

// payload is an encoded body. net/http may go on reading a body after the call has ended (an early answer, a cut
// connection), so its bytes may be used again only once released says so.
type payload struct {
	json []byte
	open atomic.Int32 // readers that net/http has not closed yet
	read atomic.Bool  // whether any byte was taken: until then the server cannot have acted
}

func (p *payload) released() bool { return p.open.Load() == 0 }

// reader is a fresh view of the payload for one attempt.
func (p *payload) reader() (io.Reader, error) {
	p.open.Add(1)
	p.read.Store(false)
	return &payloadReader{from: p, rest: p.json}, nil
}

type payloadReader struct {
	from   *payload
	rest   []byte
	closed atomic.Bool
}

func (r *payloadReader) Len() int { return len(r.rest) }

func (r *payloadReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	r.from.read.Store(true)
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *payloadReader) Close() error {
	if r.closed.CompareAndSwap(false, true) {
		r.from.open.Add(-1)
	}
	return nil
}

// noBody is an empty body that is not http.NoBody: for that net/http would re-send a GET by itself when a reused
// connection ends early, and only our own loops repeat.
type noBody struct{}

func (noBody) Read([]byte) (int, error) { return 0, io.EOF }
func (noBody) Close() error             { return nil }

// maxResponse bounds what is read of one answer: 1,000 messages of 250 KB. Only the messages that a server can hold
// limit an answer otherwise: 1,000 of 8,000,000 bytes.
const maxResponse = 256 << 20

// do is the one way to the server. It makes the attempts that r.repeat allows, each with a timeout, a request id and a
// body of its own, reads and drains the answer, and calls decode with a 2xx answer's header and body; the body is valid
// only during that call. nil discards the answer. A decode that fails counts as a lost answer.
func (c *Client) do(ctx context.Context, r request, decode func(h http.Header, body []byte) error) error {
	target := *c.base
	target.RawPath = strings.TrimSuffix(c.base.EscapedPath(), "/") + r.path
	target.Path, _ = url.PathUnescape(target.RawPath) // of escaped elements only: it cannot fail
	target.RawQuery = r.query.Encode()
	body := func() (io.Reader, error) { return noBody{}, nil }
	if r.body != nil {
		body = r.body.reader
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, r.method, target.String(), nil)
	if err != nil {
		return fmt.Errorf("sequin: %s %s: %w", r.method, r.path, err)
	}
	if err := req.SetBody(body); err != nil {
		return fmt.Errorf("sequin: %s %s: %w", r.method, r.path, err)
	}
	req.GetBody = nil // with it, net/http would re-send a request that has an Idempotency-Key
	c.setHeader(req.Header, r)

	hc := *c.http
	hc.Timeout = c.cfg.Timeout
	if r.timeout > 0 {
		hc.Timeout = r.timeout
	}
	if hc.Timeout += r.wait; c.limit > 0 {
		hc.Timeout = min(hc.Timeout, c.limit)
	}
	lost := func(cause error) error {
		dial := isDial(cause)
		return &connError{method: r.method, path: r.path, baseURL: c.cfg.BaseURL, cause: cause, dial: dial,
			sent: !dial && (r.body == nil || r.body.read.Load())}
	}
	l := loop{ctx: ctx, retry: c.cfg.Retry, repeat: r.repeat, lost: lost, started: time.Now()}
	err = l.run(&hc, req, func(resp *http.Response) error { return readAnswer(resp, r, lost, decode) })
	if err != nil && l.failures > 1 {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "sequin: gave up", slog.String("method", r.method),
			slog.String("path", r.path), slog.Int("attempts", l.failures), slog.Any("error", err))
	}
	if err != nil && r.repeat == ifNotActed && maybeActed(err) {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
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

// answers holds the buffers that answers are read into. A buffer that grew past maxPooled is left to the collector, so
// that one large answer is not kept for ever.
var answers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxPooled = 4 << 20

// readAnswer reads the status first, so that no body can hide it, and the body within its cap.
func readAnswer(resp *http.Response, r request, lost func(error) error, decode func(http.Header, []byte) error) error {
	defer resp.Body.Close()
	buf := answers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxPooled {
			buf.Reset()
			answers.Put(buf)
		}
	}()
	if resp.StatusCode/100 != 2 {
		// A body that cannot be read costs the summary, never the status.
		_, _ = buf.ReadFrom(io.LimitReader(resp.Body, maxErrorBody))
		return newAPIError(r.method, r.path, resp, buf.Bytes())
	}
	if n := resp.ContentLength; n > 0 && n <= maxResponse {
		buf.Grow(int(n) + bytes.MinRead) // ReadFrom wants MinRead bytes of room to see the end
	}
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, maxResponse+1))
	switch {
	case n > maxResponse:
		return fmt.Errorf("%w: %s %s answered more than %d bytes", ErrResponseTooLarge, r.method, r.path, maxResponse)
	case err != nil:
		return lost(err)
	case decode == nil:
		return nil
	}
	if err := decode(resp.Header, buf.Bytes()); err != nil {
		return lost(fmt.Errorf("its %s answer is not Sequin's: %w", http.StatusText(resp.StatusCode), err))
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
