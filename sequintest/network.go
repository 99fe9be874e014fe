package sequintest

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// network is the in-memory listener, and the registry of all connections: which there are, and the request that each of
// them carries.
type network struct {
	accept chan net.Conn // in-memory connections that the http.Server has not accepted yet
	closed chan struct{}

	mu      sync.Mutex // guards all below; held for arithmetic, and for closing and resetting connections, which do not wait
	down    bool
	ended   bool
	dialed  int                    // connections in memory; the number is the client's port
	conns   map[net.Conn]*activity // by the server's end
	changed chan struct{}          // closed and set to nil when a connection changes or ends; nil while no goroutine waits
}

// activity is what a connection is doing.
type activity struct {
	conn     conn
	active   bool // from the first byte of a request to the last byte of its answer
	wasReset bool
	method   string
	path     string
	since    time.Time
}

func newNetwork() *network {
	return &network{
		accept: make(chan net.Conn),
		closed: make(chan struct{}),
		conns:  make(map[net.Conn]*activity),
	}
}

// dial connects in memory. A server that is down refuses, as a host does on which nothing listens.
func (n *network) dial(ctx context.Context) (net.Conn, error) {
	client, server, ok := n.connect()
	if !ok {
		return nil, refused()
	}
	select {
	case n.accept <- server:
		return client, nil
	case <-n.closed:
		n.forget(server)
		return nil, refused()
	case <-ctx.Done():
		n.forget(server)
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: memAddr("server:80"), Err: ctx.Err()}
	}
}

func (n *network) connect() (client, server *memConn, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down || n.ended {
		return nil, nil, false
	}
	n.dialed++
	client, server = newConnPair(n.dialed)
	n.conns[server] = &activity{conn: server}
	return client, server, true
}

func refused() error {
	return &net.OpError{Op: "dial", Net: "memory", Addr: memAddr("server:80"),
		Err: os.NewSyscallError("connect", errRefused)}
}

// register adds a connection of the loopback listener. It reports false when the server is down or closed.
func (n *network) register(c conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down || n.ended {
		return false
	}
	n.conns[c] = &activity{conn: c}
	return true
}

// observe is the http.Server's ConnState hook.
func (n *network) observe(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive:
		n.update(c, func(a *activity) { a.active, a.since = true, time.Now() })
	case http.StateIdle:
		n.update(c, func(a *activity) { a.active = false })
	case http.StateClosed, http.StateHijacked: // the embedded server closes what it hijacks
		n.forget(c)
	}
}

// startRequest notes which request a connection carries. It reports whether the request may be acted on.
//
// A request whose header net/http was reading while the connection was reset becomes active only afterwards, so setDown
// did not wait for it. It calls startRequest before anything acts on it, and is refused because the connection was reset.
// A request that called startRequest before the reset was active then, so setDown's caller waits for it.
func (n *network) startRequest(c net.Conn, method, path string) (ok bool) {
	n.update(c, func(a *activity) {
		a.method, a.path = method, path
		ok = !a.wasReset
	})
	return ok
}

func (n *network) update(c net.Conn, change func(*activity)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.conns[c]; a != nil {
		change(a)
		n.broadcastLocked()
	}
}

func (n *network) forget(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
	n.broadcastLocked()
}

func (n *network) broadcastLocked() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// setDown sets whether new connections are refused, and resets all connections when they are.
func (n *network) setDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	if down {
		n.resetAllLocked()
	}
}

func (n *network) resetAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resetAllLocked()
}

func (n *network) resetAllLocked() {
	for _, a := range n.conns {
		a.wasReset = true
		a.conn.reset()
	}
}

// close closes every connection, so that what was written still arrives, and resets those that are active. It covers the
// connections that the http.Server has not seen yet, which http.Server.Close would miss.
func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.conns {
		if a.active {
			a.conn.reset()
			continue
		}
		_ = a.conn.Close() // the only error is that it is closed already
	}
}

// end refuses all connections from now on.
func (n *network) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	close(n.closed)
}

// await waits until no connection matches, but no longer than grace, and returns the connections that still match.
func (n *network) await(grace time.Duration, matches func(*activity) bool) []activity {
	timeout := time.NewTimer(grace)
	defer timeout.Stop()
	for {
		left, changed := n.matching(matches)
		if len(left) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return left
		}
	}
}

// matching returns the connections that match, and a channel that is closed at the next change.
func (n *network) matching(matches func(*activity) bool) (found []activity, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.conns {
		if matches(a) {
			found = append(found, *a)
		}
	}
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return found, n.changed
}

func active(a *activity) bool     { return a.active }
func connected(*activity) bool    { return true }
func (n *network) Addr() net.Addr { return memAddr("server:80") }

// Accept makes the network the http.Server's in-memory listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.accept:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close does nothing. Server.Close ends the network by end.
func (n *network) Close() error { return nil }
