package sequintest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxBody is one byte more than the API accepts, which is enough for the embedded server to see that a body is too large.
const maxBody = 8_000_001

// connKey is the context key of a request's connection.
type connKey struct{}

// withConn is the http.Server's ConnContext hook.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// injector is the http.Handler in front of the embedded server. It records each request in the journal and applies the
// faults.
type injector struct {
	network *network
	faults  *faults
	journal *journal
	next    http.Handler // the embedded server
}

func (in *injector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(conn)
	if !in.network.startRequest(c, r.Method, r.URL.RequestURI()) {
		panic(http.ErrAbortHandler) // the connection was reset while net/http read the header
	}
	body := readBody(r)
	record := &Request{
		Op: classify(r), Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header, Body: body, At: time.Now(),
	}
	x := &exchange{injector: in, w: w, r: r, conn: c, entry: in.journal.begin(record)}
	if err := x.serve(in.faults.find(record)); err != nil {
		panic(err) // http.ErrAbortHandler: net/http closes the connection and logs nothing
	}
}

// readBody returns the first maxBody bytes of the body, for the faults and the journal. The request can be read again
// afterwards, and a body that ended with an error ends with the same error.
func readBody(r *http.Request) []byte {
	var body bytes.Buffer
	if r.ContentLength > 0 {
		body.Grow(int(min(r.ContentLength, maxBody)) + bytes.MinRead)
	}
	_, err := body.ReadFrom(io.LimitReader(r.Body, maxBody))
	rest := io.Reader(r.Body)
	if err != nil {
		rest = failingReader{err}
	}
	again := io.MultiReader(bytes.NewReader(body.Bytes()), rest)
	r.Body = struct {
		io.Reader
		io.Closer
	}{again, r.Body}
	return body.Bytes()
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// exchange is one request and its answer. Its methods return http.ErrAbortHandler when the handler must end without a
// complete answer.
type exchange struct {
	injector *injector
	w        http.ResponseWriter
	r        *http.Request
	conn     conn
	entry    *entry
}

func (x *exchange) note(change func(*Request)) { x.injector.journal.note(x.entry, change) }

// serve answers the request, as the fault says unless it is nil.
func (x *exchange) serve(h *FaultHandle) error {
	if h == nil {
		x.pass()
		return nil
	}
	if !h.effect.kind.actsFirst() {
		h.hit()
	}
	if err := x.delay(h.effect.delay, h); err != nil {
		return err
	}
	switch e := h.effect; e.kind {
	case cutBefore:
		return x.abort()
	case answerInstead:
		return x.send(e.answer, h)
	case holdAnswer, replaceAnswer, cutAfter:
		return x.actFirst(h)
	default:
		x.pass()
		return nil
	}
}

// actFirst lets the server act, holds its answer back and applies the fault, unless the answer is within its limits.
func (x *exchange) actFirst(h *FaultHandle) error {
	e := h.effect
	held := &heldAnswer{header: make(http.Header)}
	began := time.Now()
	x.actWithin(e.limit.wait, held)
	final := held.reply()
	x.note(func(r *Request) { r.Answer = final.body })
	if e.limit != (limit{}) && e.limit.allows(final, time.Since(began)) {
		return x.sendAll(final)
	}
	h.hit()
	if err := x.delay(e.delayAfter, h); err != nil {
		return err
	}
	switch e.kind {
	case cutAfter:
		return x.abort()
	case replaceAnswer:
		final = e.answer
	}
	return x.send(final, h)
}

// actWithin lets the server act. After the wait, unless it is 0, the server sees that its client has left.
func (x *exchange) actWithin(wait time.Duration, w http.ResponseWriter) {
	if wait > 0 {
		ctx, cancel := context.WithTimeout(x.r.Context(), wait)
		defer cancel()
		x.r = x.r.WithContext(ctx)
	}
	x.act(w)
}

// pass lets the server answer the client directly.
func (x *exchange) pass() {
	x.act(&answer{ResponseWriter: x.w, note: x.note})
}

// act lets the server act on the request and answer into w.
func (x *exchange) act(w http.ResponseWriter) {
	x.note(func(r *Request) { r.Acted = true })
	defer x.note(func(r *Request) { r.ActedAt = time.Now() })
	x.injector.next.ServeHTTP(w, x.r)
}

// delay waits for d, or until the fault is removed or the server closes. It aborts the exchange when the client leaves.
func (x *exchange) delay(d time.Duration, h *FaultHandle) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.removed:
	case <-x.r.Context().Done():
		return x.abort()
	}
	return nil
}

// sendAll answers the client.
func (x *exchange) sendAll(r reply) error {
	x.sendHeader(r)
	_, _ = x.w.Write(r.body) // fails when the client has left, or when the status allows no body
	return nil
}

func (x *exchange) sendHeader(r reply) {
	r.copyHeader(x.w.Header())
	x.w.Header().Set("Content-Length", strconv.Itoa(len(r.body)))
	x.note(func(noted *Request) { noted.Status = r.status })
	x.w.WriteHeader(r.status)
}

// send answers the client as slowly as the fault says. When the fault truncates the answer, the header promises the whole
// body and the body ends early.
func (x *exchange) send(r reply, h *FaultHandle) error {
	e := h.effect
	if e.truncate == 0 && e.rate == 0 {
		return x.sendAll(r)
	}
	x.sendHeader(r)
	body := r.body
	if e.truncate > 0 {
		body = body[:min(e.truncate, max(len(body)-1, 0))]
	}
	if err := x.sendSlowly(body, h); err != nil || e.truncate == 0 {
		return err
	}
	// The connection is closed and not reset, so that the client still gets what was flushed.
	_ = http.NewResponseController(x.w).Flush()
	return http.ErrAbortHandler
}

// sendSlowly sends a body in ten pieces per second, or in single bytes. Without a rate it sends it at once.
func (x *exchange) sendSlowly(body []byte, h *FaultHandle) error {
	piece, pause := len(body), time.Duration(0)
	if rate := h.effect.rate; rate > 0 {
		piece = max(rate/10, 1)
		pause = time.Duration(piece) * time.Second / time.Duration(rate)
	}
	for len(body) > 0 {
		if err := x.delay(pause, h); err != nil {
			return err
		}
		n := min(piece, len(body))
		_, _ = x.w.Write(body[:n])
		if pause > 0 {
			_ = http.NewResponseController(x.w).Flush()
		}
		body = body[n:]
	}
	return nil
}

// abort resets the connection. The caller returns its result, which ends the handler.
func (x *exchange) abort() error {
	x.conn.reset()
	return http.ErrAbortHandler
}
