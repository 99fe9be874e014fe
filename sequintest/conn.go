package sequintest

import (
	"errors"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"
)

// conn is a connection of the server: in memory, or a real one. A reset one is gone at once for both sides and with it
// what was still on the way.
type conn interface {
	net.Conn
	reset()
}

// memConn is one end of an in-memory connection. It keeps to what net/http relies on with TCP: Close wakes reads and
// writes, deadlines do too and can be moved, a peer's Close is an io.EOF after its last byte, and CloseWrite exists.
type memConn struct {
	in, out       *pipe
	local, remote memAddr
}

// newConnPair returns the two ends of a connection, the client's with the given number as its port.
func newConnPair(port int) (client, server *memConn) {
	up, down := newPipe(), newPipe()
	clientAddr, serverAddr := memAddr("client:"+strconv.Itoa(port)), memAddr("server:80")
	return &memConn{in: down, out: up, local: clientAddr, remote: serverAddr},
		&memConn{in: up, out: down, local: serverAddr, remote: clientAddr}
}

func (c *memConn) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	return n, c.explain("read", err)
}

func (c *memConn) Write(b []byte) (int, error) {
	n, err := c.out.Write(b)
	return n, c.explain("write", err)
}

// Close lets the peer read what was written. As on Linux, the peer is then told of a reset instead of an end when this
// side leaves something unread: a server that refuses a request early and closes shows its clients just that.
func (c *memConn) Close() error {
	ended := io.EOF
	if c.in.closeRead(net.ErrClosed) {
		ended = syscall.ECONNRESET
	}
	c.out.closeWrite(net.ErrClosed, ended)
	return nil
}

// CloseWrite ends this side's stream and goes on reading, as net/http does after it refused a body.
func (c *memConn) CloseWrite() error {
	c.out.closeWrite(syscall.EPIPE, io.EOF)
	return nil
}

// reset is called on the server's end. What goes out is cut first: a handler that learns of the other cut, and answers all
// the same, must not find a way to the client still open.
func (c *memConn) reset() {
	c.out.cut(syscall.ECONNRESET)
	c.in.cut(syscall.ECONNRESET)
}

func (c *memConn) LocalAddr() net.Addr  { return c.local }
func (c *memConn) RemoteAddr() net.Addr { return c.remote }

func (c *memConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.read, t)
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.write, t)
	return nil
}

// explain wraps an error as package net does; io.EOF alone travels bare.
func (c *memConn) explain(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// memAddr names an end of an in-memory connection.
type memAddr string

func (memAddr) Network() string  { return "memory" }
func (a memAddr) String() string { return string(a) }

// tcpConn is a connection of the loopback listener.
type tcpConn struct{ *net.TCPConn }

// reset makes the kernel send RST: with a linger of zero, what was not sent yet is dropped. A connection that is closed
// already refuses both, which is as well.
func (c tcpConn) reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}
