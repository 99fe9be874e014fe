// Package transport makes one attempt at an HTTP request over net/http. It gives each attempt a timeout, learns from
// net/http's trace how far the request came, and keeps the memory of request and response bodies for reuse.
//
// It does not know the API, what an answer means, or whether to repeat a request: the caller's loop decides that. A
// Payload belongs to one call at a time, and an Attempts to one call. Bodies may be used concurrently.
package transport

import (
	"bytes"
	"io"
	"net/http/httptrace"
	"sync"
	"sync/atomic"

	"github.com/sequin-go/sequin/internal/jscan"
)

// Payload is the encoded body of a request, and what net/http reports about its way to the server. net/http may read a
// body after the call has ended, for instance when the answer came early or the connection broke. The bytes may
// therefore be used again only once net/http has released them; see Bodies.Put.
//
// The reports come from net/http's trace and not from an io.Reader that counts: net/http sends the header of a request
// whose body type it does not know in a packet of its own, which takes a third of the time of a small request.
type Payload struct {
	JSON []byte // nil sends no body

	hooks     httptrace.ClientTrace // made once, because a Payload is reused
	asked     atomic.Bool           // a connection was asked for; stays false with a RoundTripper that calls no trace
	wroteHead atomic.Bool           // the header was written; the server cannot act before that
	conns     atomic.Int32          // connections obtained, over all attempts
	finished  atomic.Int32          // how many of these net/http has finished writing to
}

// Reader returns a reader of the whole body for the next attempt.
func (p *Payload) Reader() (io.Reader, error) {
	p.asked.Store(false)
	p.wroteHead.Store(false)
	if p.JSON == nil {
		return noBody{}, nil
	}
	return bytes.NewReader(p.JSON), nil
}

// trace returns hooks that record an attempt's progress in p.
func (p *Payload) trace() httptrace.ClientTrace {
	if p.hooks.GetConn == nil {
		p.hooks = httptrace.ClientTrace{
			GetConn:      func(string) { p.asked.Store(true) },
			GotConn:      func(httptrace.GotConnInfo) { p.conns.Add(1) },
			WroteHeaders: func() { p.wroteHead.Store(true) },
			WroteRequest: func(httptrace.WroteRequestInfo) { p.finished.Add(1) },
		}
	}
	return p.hooks
}

// Sent reports whether the whole request of the latest attempt may have reached the server. It is true for a RoundTripper
// that calls no trace.
func (p *Payload) Sent() bool { return p.wroteHead.Load() || !p.asked.Load() }

// released reports whether net/http has finished reading the bytes. A RoundTripper that calls no trace may keep them for
// ever.
func (p *Payload) released() bool { return p.asked.Load() && p.conns.Load() == p.finished.Load() }

// noBody is an empty body that is not http.NoBody. With http.NoBody, net/http repeats a GET by itself when a reused
// connection ends early; only the caller's loop may repeat a request.
type noBody struct{}

func (noBody) Read([]byte) (int, error) { return 0, io.EOF }
func (noBody) Close() error             { return nil }

// maxPooled limits the memory that is kept of one request or answer. Requests have at most 8 MB. It holds the answer to a
// receive of 1,000 messages of 10 KiB; allocating that anew for each answer cost a quarter of the rate.
const maxPooled = 16 << 20

// Bodies keeps payloads for reuse. The zero value is ready. It may be used concurrently.
type Bodies struct{ pool sync.Pool }

// Get returns an empty payload with room for size bytes of JSON.
func (b *Bodies) Get(size int) *Payload {
	size += jscan.Ahead
	p, _ := b.pool.Get().(*Payload)
	if p == nil || cap(p.JSON) < size {
		p = &Payload{JSON: make([]byte, 0, size)}
	}
	p.JSON = p.JSON[:0]
	return p
}

// Put keeps p for a later Get. The caller must not use p again. A payload that net/http may still be reading is left to
// the garbage collector.
func (b *Bodies) Put(p *Payload) {
	if p.released() && cap(p.JSON) <= maxPooled {
		b.pool.Put(p)
	}
}
