package sequintest

import (
	"net/http"
	"slices"
	"time"
)

// answer is an http.ResponseWriter that notes in the journal what it passes on to the client.
type answer struct {
	http.ResponseWriter
	note func(change func(*Request))
}

func (a *answer) WriteHeader(status int) {
	a.note(func(r *Request) { r.Status, r.ActedAt = status, time.Now() })
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.note(func(r *Request) {
		if r.Status == 0 {
			r.Status, r.ActedAt = http.StatusOK, time.Now()
		}
		r.Answer = append(r.Answer, b...)
	})
	return a.ResponseWriter.Write(b)
}

// Unwrap gives an http.ResponseController access to Flush. The server flushes to learn whether a receive's client has
// left.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// heldAnswer is an http.ResponseWriter that holds an answer back for a fault. To the embedded server it looks as if the
// answer had been sent.
type heldAnswer struct {
	header http.Header
	status int
	body   []byte
}

func (h *heldAnswer) Header() http.Header { return h.header }

func (h *heldAnswer) WriteHeader(status int) {
	if h.status == 0 {
		h.status = status
	}
}

func (h *heldAnswer) Write(b []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	h.body = append(h.body, b...)
	return len(b), nil
}

// FlushError makes a Flush by http.ResponseController succeed, as on a connection whose client is still there.
func (h *heldAnswer) FlushError() error { return nil }

// reply is a complete answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// reply returns the answer that was held back. A handler that wrote nothing has answered with 200, as in net/http.
func (h *heldAnswer) reply() reply {
	h.WriteHeader(http.StatusOK)
	return reply{status: h.status, header: h.header, body: h.body}
}

func (r reply) copyHeader(to http.Header) {
	for name, values := range r.header {
		to[name] = slices.Clone(values)
	}
}
