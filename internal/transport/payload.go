// Package transport makes one attempt at an HTTP request over net/http. It gives each attempt a timeout, learns from
// net/http's trace how much of the request was sent, and keeps the memory of request and response bodies for reuse.
//
// It does not know the API, what an answer means, or whether to repeat a request: the caller's loop decides that. A
// Payload belongs to one call at a time, and an Attempts to one call. Bodies may be used concurrently.
package transport

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"

	"github.com/sequin-go/sequin/internal/jscan"
)

// Payload is the encoded body of a request, and the progress of the request as net/http reports it. net/http may read a body
// after the call has ended, for instance if the answer came early or the connection broke. The bytes may therefore be used
// again only after net/http has released them; see Bodies.Put.
//
// The progress comes from net/http's trace and not from an io.Reader that counts. If net/http does not know the type of a
// body, it sends the header in a packet of its own, which takes a third of the time of a small request.
type Payload struct {
	JSON []byte // nil sends no body

	hooks     httptrace.ClientTrace // made once, because a Payload is reused
	asked     atomic.Bool           // a connection was asked for; stays false with a RoundTripper that calls no trace
	connected atomic.Bool           // the connection that was asked for last is established, including TLS
	wroteHead atomic.Bool           // the header was written to that connection; the server cannot act before that
	handshake atomic.Bool           // a TLS handshake began meanwhile; for the text of an error only
	conns     atomic.Int32          // connections obtained, over all attempts
	finished  atomic.Int32          // how many of these net/http has finished writing to

	// Used only by the goroutine that makes the attempt.
	peer    *Peer
	conn    net.Conn    // of the latest attempt
	refused bool        // conn was one to avoid, and was closed before it was used
	closing http.Header // of the attempt if it may meet an HTTP/2 connection to avoid; nil otherwise
}

// begin starts an attempt: it gives req its body and forgets the attempt before.
//
// Over HTTP/1, when a reused connection ends early, net/http by itself repeats a GET without a body, and a request that
// has a GetBody and an Idempotency-Key; only the caller's loop may repeat these. Other requests keep GetBody: net/http
// repeats them only if nothing was written, because their connection had been closed. Over HTTP/2 it repeats only what
// the server has left unprocessed, and a GET must have no body, since some proxies refuse one.
func (p *Payload) begin(req *http.Request, http1 bool) {
	p.asked.Store(false)
	p.refused = false
	req.GetBody = nil // that of go-retryablehttp returns an empty body
	switch {
	case p.JSON == nil && http1 && req.Method == http.MethodGet:
		req.Body = noBody{}
		return
	case p.JSON == nil:
		return
	}
	req.ContentLength = int64(len(p.JSON))
	req.Body, _ = p.reader()
	if !http1 || req.Header.Get("Idempotency-Key") == "" {
		req.GetBody = p.reader
	}
}

func (p *Payload) reader() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(p.JSON)), nil }

// trace returns hooks that record an attempt's progress in p. Only the connection that the attempt was given counts.
// net/http continues a dial after another connection has become free for the attempt, and reports the events of that
// dial, for instance its TLS handshake, to the attempt's trace as well.
func (p *Payload) trace(peer *Peer) httptrace.ClientTrace {
	p.peer = peer
	if p.hooks.GetConn == nil {
		p.hooks = httptrace.ClientTrace{
			GetConn: func(string) {
				p.asked.Store(true)
				p.connected.Store(false)
				p.wroteHead.Store(false)
				p.handshake.Store(false)
				p.refused = false // net/http itself may ask for another connection after a refused one
			},
			TLSHandshakeStart: func() { p.handshake.Store(true) },

			GotConn:      p.gotConn,
			WroteHeaders: func() { p.wroteHead.Store(true) },
			WroteRequest: func(httptrace.WroteRequestInfo) { p.finished.Add(1) },
		}
	}
	return p.hooks
}

// gotConn records the connection of an attempt, and closes it if it is one to avoid. It retires an HTTP/2 connection by
// "Connection: close": net/http sends this request on it, and no other, and closes it when its requests have ended.
func (p *Payload) gotConn(info httptrace.GotConnInfo) {
	p.conns.Add(1)
	p.wroteHead.Store(false)
	p.connected.Store(true)
	p.conn = info.Conn
	switch avoided := p.peer.forgive(info.Conn); {
	case !avoided:
	case p.closing != nil:
		p.closing.Set("Connection", "close")
	default:
		p.refused = true
		_ = info.Conn.Close()
	}
}

// Connected reports whether the latest attempt had a connection. It is true for a RoundTripper that calls no trace.
func (p *Payload) Connected() bool { return p.connected.Load() || !p.asked.Load() }

// Handshaking reports whether the latest attempt has no connection and has begun a TLS handshake.
func (p *Payload) Handshaking() bool { return !p.Connected() && p.handshake.Load() }

// Sent reports whether the whole request of the latest attempt may have reached the server. It is true for a
// RoundTripper that calls no trace.
func (p *Payload) Sent() bool { return p.connected.Load() && p.wroteHead.Load() || !p.asked.Load() }

// released reports whether net/http has finished reading the bytes. A RoundTripper that calls no trace may keep them for
// ever.
func (p *Payload) released() bool { return p.asked.Load() && p.conns.Load() == p.finished.Load() }

// noBody is an empty body that is not http.NoBody. With http.NoBody, net/http repeats a GET by itself when a reused
// connection ends early; only the caller's loop may repeat a request.
type noBody struct{}

func (noBody) Read([]byte) (int, error) { return 0, io.EOF }
func (noBody) Close() error             { return nil }

// maxPooled is the size of the largest buffer that is kept for reuse. Requests have at most 8 MB. The answer to a receive of
// 1,000 messages of 10 KiB fits; a new allocation for each such answer cost a quarter of the rate.
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
	p.conn, p.peer = nil, nil
	if p.released() && cap(p.JSON) <= maxPooled {
		b.pool.Put(p)
	}
}
