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

// maxBody is one byte more than the API takes: of a longer body the server behind gets as much as shows it too long.
const maxBody = 8_000_001

// connKey finds a request's connection in its context.
type connKey struct{}

// exchange is one request on its way through the faults.
type exchange struct {
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	conn   conn
	entry  *entry
}

func (e *exchange) note(add func(*Request)) { e.server.journal.note(e.entry, add) }

// serve is the http.Handler in front of the embedded server.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(conn)
	if !s.network.working(c, r.Method, r.URL.RequestURI()) {
		panic(http.ErrAbortHandler) // cut while net/http read its header: nothing may act on it now
	}
	body := readBody(r)
	record := &Request{
		Op: classify(r), Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header, Body: body, At: time.Now(),
	}
	e := &exchange{server: s, w: w, r: r, conn: c, entry: s.journal.begin(record)}
	if fault := s.faults.strike(record); fault != nil {
		e.suffer(fault)
		return
	}
	e.pass()
}

// readBody takes in what faults may look at and the journal keeps, and leaves the request as if nobody had: a body that
// broke off breaks off again.
func readBody(r *http.Request) []byte {
	var body bytes.Buffer
	if r.ContentLength > 0 {
		body.Grow(int(min(r.ContentLength, maxBody)) + bytes.MinRead)
	}
	_, err := body.ReadFrom(io.LimitReader(r.Body, maxBody))
	again := io.Reader(bytes.NewReader(body.Bytes()))
	if err != nil {
		again = io.MultiReader(again, failingReader{err})
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{again, r.Body}
	return body.Bytes()
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// pass lets the server answer undisturbed.
func (e *exchange) pass() {
	e.serveInto(&answer{ResponseWriter: e.w, note: e.note})
}

// serveInto lets the server act.
func (e *exchange) serveInto(w http.ResponseWriter) {
	e.note(func(r *Request) { r.Acted = true })
	defer e.note(func(r *Request) { r.ActedAt = time.Now() })
	e.server.embedded.ServeHTTP(w, e.r)
}

// suffer does to the request what the fault says.
func (e *exchange) suffer(h *FaultHandle) {
	f := h.fault
	if !f.strikesAfter() {
		h.hit()
	}
	e.delay(f.Delay, h)
	own := reply{status: f.Status, header: f.Header, body: []byte(f.Body)}
	switch {
	case f.CutBefore:
		e.cut()
	case f.strikesAfter():
		own = e.act(f, own)
		h.hit()
		e.delay(f.DelayAfter, h)
		if f.CutAfter {
			e.cut()
		}
	case f.Status == 0:
		e.pass()
		return
	}
	e.send(own, f.Truncate)
}

// act lets the server answer in private and returns what the client shall get instead of that.
func (e *exchange) act(f Fault, own reply) reply {
	held := &heldAnswer{header: make(http.Header)}
	e.serveInto(held)
	theirs := held.reply()
	e.note(func(r *Request) { r.Answer = theirs.body })
	switch {
	case f.Garble:
		return reply{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}, body: []byte(garbage)}
	case f.Status != 0:
		return own
	}
	return theirs
}

// delay waits, until the client is gone, the fault is removed or the server closes. Of a client that is gone nothing more
// is done.
func (e *exchange) delay(d time.Duration, h *FaultHandle) {
	if d == 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.removed:
	case <-e.r.Context().Done():
		e.cut()
	}
}

// send answers; with truncate the body breaks off, after the header has promised all of it.
func (e *exchange) send(r reply, truncate int) {
	r.copyHeader(e.w.Header())
	e.w.Header().Set("Content-Length", strconv.Itoa(len(r.body)))
	e.note(func(noted *Request) { noted.Status = r.status })
	e.w.WriteHeader(r.status)
	body := r.body
	if truncate > 0 {
		body = body[:min(truncate, max(len(body)-1, 0))]
	}
	_, _ = e.w.Write(body) // it fails for a client that is gone, and for a status that has no body: both may be
	if truncate > 0 {
		_ = http.NewResponseController(e.w).Flush()
		// The handler ends by net/http's own way of breaking a connection off: what was flushed still arrives.
		panic(http.ErrAbortHandler)
	}
}

// cut breaks the connection and ends the handler.
func (e *exchange) cut() {
	e.conn.reset()
	panic(http.ErrAbortHandler)
}

// remember puts a connection into its requests' contexts.
func remember(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}
