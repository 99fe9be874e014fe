package sequintest

import (
	"errors"
	"net"
	"net/http"
	"sync"
)

// listeners serves the in-memory listener and, after Server.Listen, a loopback listener.
type listeners struct {
	http    *http.Server
	network *network

	mu       sync.Mutex        // guards all below; held for arithmetic, and while the loopback listener is opened or closed
	loopback *loopbackListener // nil if there is none, or the server is down
	addr     string            // of the loopback listener; kept while the server is down
	serving  []chan struct{}   // one for each call of http.Server.Serve, closed when it returns
	closing  bool
}

// serve starts a goroutine that serves l until l or the http.Server is closed.
func (ls *listeners) serve(l net.Listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.serveLocked(l)
}

func (ls *listeners) serveLocked(l net.Listener) {
	ended := make(chan struct{})
	ls.serving = append(ls.serving, ended)
	go func() {
		defer close(ended)
		_ = ls.http.Serve(l) // the error is always that the listener, or the http.Server, was closed
	}()
}

// listen opens the loopback listener unless it is open, and returns its address.
func (ls *listeners) listen() (addr string, err error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.addr == "" {
		if err := ls.openLocked("127.0.0.1:0"); err != nil {
			return "", err
		}
		ls.addr = ls.loopback.Addr().String()
	}
	return ls.addr, nil
}

// reopen opens the loopback listener again, with the port that it had, if there was one.
func (ls *listeners) reopen() error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.addr == "" || ls.loopback != nil || ls.closing {
		return nil
	}
	return ls.openLocked(ls.addr)
}

func (ls *listeners) openLocked(addr string) error {
	if ls.closing {
		return errors.New("the server is closed")
	}
	l, err := listenLoopback(addr, ls.network)
	if err != nil {
		return err
	}
	ls.loopback = l
	ls.serveLocked(l)
	return nil
}

// closeLoopback closes the loopback listener, which reopen may open again.
func (ls *listeners) closeLoopback() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.closeLoopbackLocked()
}

func (ls *listeners) closeLoopbackLocked() {
	if ls.loopback != nil {
		_ = ls.loopback.Close() // the listener is unusable even if this fails
		ls.loopback = nil
	}
}

// close closes the loopback listener for good. It reports whether this is the first call.
func (ls *listeners) close() (first bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	first = !ls.closing
	ls.closing = true
	ls.closeLoopbackLocked()
	return first
}

// wait waits until all listeners have ended. It must be called after close.
func (ls *listeners) wait() {
	for _, ended := range ls.serving {
		<-ended
	}
}

// loopbackListener is a real listener, for programs that run as processes of their own.
type loopbackListener struct {
	*net.TCPListener
	network *network
}

func listenLoopback(addr string, n *network) (*loopbackListener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &loopbackListener{TCPListener: l.(*net.TCPListener), network: n}, nil
}

// Accept registers each connection with the network, so that Down and CutConnections reach it.
func (l *loopbackListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		c := tcpConn{raw}
		if l.network.register(c) {
			return c, nil
		}
		c.reset() // it arrived between Down and the listener's end
	}
}
