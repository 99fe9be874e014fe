package transport

import (
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
)

// Peer is what the attempts of one Client have learned about the server, or about the proxy before it. It may be used
// concurrently.
type Peer struct {
	// major is the HTTP version of the latest answer. Over HTTP/1 net/http repeats some requests by itself, which it can be
	// kept from by the form of their bodies only, and over HTTP/2 that form would be wrong.
	major atomic.Int32

	count   atomic.Int32 // of avoided, so that most attempts need no lock
	mu      sync.Mutex   // guards all below
	avoided []net.Conn   // oldest first
}

// maxAvoided limits the connections that a Peer remembers. net/http reuses the connection that became idle last, so the
// newest ones matter. Those that are forgotten are closed by the server or by the idle timeout.
const maxAvoided = 64

// NewPeer returns a Peer that assumes that HTTP version until there has been an answer.
func NewPeer(major int) *Peer {
	p := new(Peer)
	p.learn(major)
	return p
}

// learn notes the HTTP version of an answer. It is 0 for some RoundTrippers of tests and caches.
func (p *Peer) learn(major int) {
	if m := int32(major); m > 0 && p.major.Load() != m {
		p.major.Store(m)
	}
}

// http1 reports whether the next request will probably travel over HTTP/1.
func (p *Peer) http1() bool { return p.major.Load() == 1 }

// avoid keeps the connection from being used again. It does not close it: if the answer has been read whole, the connection
// may carry a request of another user of the http.Client by now.
func (p *Peer) avoid(c net.Conn) {
	if c == nil || !reflect.ValueOf(c).Comparable() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(p.avoided, c) {
		return
	}
	if len(p.avoided) == maxAvoided {
		p.avoided = slices.Delete(p.avoided, 0, 1)
	}
	p.avoided = append(p.avoided, c)
	p.count.Store(int32(len(p.avoided)))
}

// forgive allows the connection again, and reports whether it was avoided.
func (p *Peer) forgive(c net.Conn) bool {
	if p.count.Load() == 0 || c == nil || !reflect.ValueOf(c).Comparable() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.avoided, c)
	if i < 0 {
		return false
	}
	p.avoided = slices.Delete(p.avoided, i, i+1)
	p.count.Store(int32(len(p.avoided)))
	return true
}
