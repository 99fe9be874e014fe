package sequintest

import (
	"net/http"
	"slices"
	"time"
)

// answer passes an answer on as it comes, after noting it.
type answer struct {
	http.ResponseWriter
	note func(add func(*Request))
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

// Unwrap lets an http.ResponseController flush: so the server learns that a receive's client is gone.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// heldAnswer takes an answer in, so that a fault decides what becomes of it. To the server behind it has been sent.
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

// FlushError tells an http.ResponseController that all went well: the server is to believe it.
func (h *heldAnswer) FlushError() error { return nil }

// reply is the answer that a client gets in the end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (h *heldAnswer) reply() reply {
	h.WriteHeader(http.StatusOK)
	return reply{status: h.status, header: h.header, body: h.body}
}

func (r reply) copyHeader(to http.Header) {
	for name, values := range r.header {
		to[name] = slices.Clone(values)
	}
}
