package console

import (
	"net"
	"sync"
	"time"
)

const (
	loginWindow = time.Minute
	// maxRefused is how many logins of an address may be refused within loginWindow: a person who pastes the wrong token needs
	// fewer, and a program that guesses needs far more.
	maxRefused = 10
	// maxAddresses bounds the memory. Addresses beyond it count as one.
	maxAddresses = 10_000
)

// loginLimit counts the logins of each address that were refused. People behind a proxy share its address.
type loginLimit struct {
	mu    sync.Mutex // guards what follows
	since time.Time
	count map[string]int // since then
}

// begin reports whether the address may try a token now.
func (l *loginLimit) begin(address string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= loginWindow {
		l.since, l.count = now, map[string]int{}
	}
	return l.count[l.name(address)] < maxRefused
}

func (l *loginLimit) refused(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[l.name(address)]++
}

// name returns the host of an address, or "" for all that have no room.
func (l *loginLimit) name(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if _, known := l.count[host]; !known && len(l.count) >= maxAddresses {
		return ""
	}
	return host
}
