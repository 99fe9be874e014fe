package transport

import (
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
)

// Peer holds what the attempts of one Client have learned about the server or its proxy. It may be used
// concurrently.
type Peer struct {
	// major is the HTTP version of the latest answer. Over HTTP/1 net/http repeats some requests by itself, and only
	// the form of their bodies can prevent that. Over HTTP/2 that form would be wrong. See Payload.begin.
	major atomic.Int32

	count   atomic.Int32 // of avoided, so that most attempts need no lock
	mu      sync.Mutex   // guards all below
	avoided []net.Conn   // oldest first
}

// maxAvoided limits the connections that a Peer remembers. net/http reuses the connection that became idle last, so the
// newest ones matter. The server or the idle timeout closes the others.
const maxAvoided = 64

// NewPeer returns a Peer that assumes the HTTP version major until an answer arrives.
func NewPeer(major int) *Peer {
	p := new(Peer)
	p.learn(major)
	return p
}

// learn records the HTTP version of an answer. It ignores 0, which the RoundTrippers of some tests and caches give.
func (p *Peer) learn(major int) {
	if m := int32(major); m > 0 && p.major.Load() != m {
		p.major.Store(m)
	}
}

// http1 reports whether the next request will probably travel over HTTP/1.
func (p *Peer) http1() bool { return p.major.Load() == 1 }

// avoid prevents further use of the connection. It does not close it: after the whole answer has been read, the connection
// may already carry a request of another user of the http.Client.
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

// avoids reports whether any connection is avoided.
func (p *Peer) avoids() bool { return p.count.Load() > 0 }

// forgive allows the connection again, and reports whether it was avoided.
func (p *Peer) forgive(c net.Conn) bool {
	if !p.avoids() || c == nil || !reflect.ValueOf(c).Comparable() {
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
