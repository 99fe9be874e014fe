package sequintest

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// network makes and knows the server's connections: who is connected, and what each is busy with.
type network struct {
	accept chan net.Conn // in-memory connections on their way to the http.Server
	closed chan struct{}

	mu      sync.Mutex // guards all below; held for arithmetic only, and while cutting, which never waits
	down    bool
	ended   bool
	dialed  int
	conns   map[net.Conn]*activity // by the server's end
	changed chan struct{}          // closed and replaced when a connection becomes quiet or goes; nil while nobody waits
}

// activity is what a connection is doing.
type activity struct {
	conn   conn
	active bool // from a request's header to its answer's last byte
	cut    bool
	method string
	path   string
	since  time.Time
}

func newNetwork() *network {
	return &network{
		accept: make(chan net.Conn),
		closed: make(chan struct{}),
		conns:  make(map[net.Conn]*activity),
	}
}

// dial connects in memory. A server that is away refuses as a host without the port open does.
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
		Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

// admit registers a connection from the loopback listener; false: the server is away.
func (n *network) admit(c conn) bool {
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
	case http.StateClosed:
		n.forget(c)
	}
}

// working notes what an active connection was asked, and reports whether it may be acted on.
//
// A request that net/http was reading when the connection was cut becomes active only afterwards: setDown did not see it
// and did not wait for it. It comes here before anything acts, finds the mark and ends. One that came here before the cut
// was active by then, so it was waited for.
func (n *network) working(c net.Conn, method, path string) (may bool) {
	n.update(c, func(a *activity) {
		a.method, a.path = method, path
		may = !a.cut
	})
	return may
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

// setDown sets whether the server is away, and cuts what is connected when it goes.
func (n *network) setDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	if down {
		n.cutLocked()
	}
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cutLocked()
}

func (n *network) cutLocked() {
	for _, a := range n.conns {
		a.cut = true
		a.conn.reset()
	}
}

// close ends every connection: in good order, so that what was written still arrives, but one that is active is cut. The
// http.Server's own Close would miss those that it was just handed; here every one is registered before.
func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.conns {
		if a.active {
			a.conn.reset()
			continue
		}
		_ = a.conn.Close() // the error is that it was closed already
	}
}

// end refuses every later connection.
func (n *network) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	close(n.closed)
}

// await waits until no connection is left for which busy says true, at most for grace, and returns those that are left.
func (n *network) await(grace time.Duration, busy func(*activity) bool) []activity {
	timeout := time.NewTimer(grace)
	defer timeout.Stop()
	for {
		left, changed := n.busy(busy)
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

func (n *network) busy(is func(*activity) bool) (left []activity, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.conns {
		if is(a) {
			left = append(left, *a)
		}
	}
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return left, n.changed
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

// Close does nothing: the Server ends the network itself, before it closes the http.Server.
func (n *network) Close() error { return nil }
