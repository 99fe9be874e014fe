package sim

import (
	"net"
	"sync"
	"time"
)

// packet is how many bytes travel at once over a slow link, so that its connections share it. It is the usual size over
// Ethernet.
const packet = 1460

// link is one direction of a client's link, which all its connections share.
type link struct {
	mu   sync.Mutex // guards free; held for arithmetic only
	free time.Time  // when all that was written before has passed
}

// pass waits until n bytes have passed at a rate in bytes a second, or the connection is closed.
func (l *link) pass(n, rate int, closed <-chan struct{}) {
	timer := time.NewTimer(l.reserve(n, rate))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-closed:
	}
}

// reserve returns how long n bytes take to pass, behind all others.
func (l *link) reserve(n, rate int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(rate))
	return time.Until(l.free)
}

// linkConn is a connection over a client's link.
type linkConn struct {
	net.Conn
	route  *route
	once   sync.Once
	closed chan struct{}
}

// Write passes packets one after the other while the link is slow.
func (c *linkConn) Write(b []byte) (written int, err error) {
	for len(b) > 0 && err == nil {
		f, slow := c.route.weather.is(slowLink)
		if !slow {
			n, err := c.Conn.Write(b)
			return written + n, err
		}
		n := min(len(b), packet)
		c.route.up.pass(n, f.Limit, c.closed)
		n, err = c.Conn.Write(b[:n])
		written, b = written+n, b[n:]
	}
	return written, err
}

// Read passes at most one packet while the link is slow.
func (c *linkConn) Read(b []byte) (int, error) {
	f, slow := c.route.weather.is(slowLink)
	if !slow {
		return c.Conn.Read(b)
	}
	n, err := c.Conn.Read(b[:min(len(b), packet)])
	if n > 0 {
		c.route.down.pass(n, f.Limit, c.closed)
	}
	return n, err
}

// Close wakes a Write or Read that waits for the link.
func (c *linkConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
