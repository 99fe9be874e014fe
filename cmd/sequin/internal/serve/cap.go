package serve

import (
	"net"
	"sync"
)

// cappedListener keeps a number of connections open at most. Further ones wait in the queue of the system until others are
// closed. A connection is a *net.TCPConn still, since net/http asks for its CloseWrite.
type cappedListener struct {
	*net.TCPListener
	room   chan struct{} // has an element for each open connection
	close  sync.Once
	closed chan struct{}
}

func newCappedListener(l *net.TCPListener, most int) *cappedListener {
	return &cappedListener{TCPListener: l, room: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept waits for room, and then for a connection.
func (l *cappedListener) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.AcceptTCP()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &cappedConn{TCPConn: conn, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

// Close ends Accept.
func (l *cappedListener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.TCPListener.Close()
}

// cappedConn makes room when it is closed.
type cappedConn struct {
	*net.TCPConn
	leave func()
}

func (c *cappedConn) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}
