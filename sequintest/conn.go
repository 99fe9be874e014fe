package sequintest

import (
	"errors"
	"io"
	"net"
	"strconv"
	"time"
)

// conn is the server's end of a connection, in memory or real. After reset both sides fail at once, and data in transit is
// lost.
type conn interface {
	net.Conn
	reset()
}

// memConn is one end of an in-memory connection. It behaves as net/http expects of TCP: Close and deadlines wake reads and
// writes, deadlines can be moved, the reader gets io.EOF after the last byte when the peer closes, and there is CloseWrite.
type memConn struct {
	in, out       *pipe
	local, remote memAddr
}

// newConnPair returns the two ends of a connection. port is the client's.
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

// Close lets the peer read what was written. If this side leaves data unread, the peer then gets ECONNRESET instead of
// io.EOF, as on Linux. That is what clients see of a server that refuses a request early and closes.
func (c *memConn) Close() error {
	ended := io.EOF
	if c.in.closeRead(net.ErrClosed) {
		ended = errReset
	}
	c.out.closeWrite(net.ErrClosed, ended)
	return nil
}

// CloseWrite ends the data that this side writes; it can still read. net/http calls it after it has refused a body.
func (c *memConn) CloseWrite() error {
	c.out.closeWrite(errBrokenPipe, io.EOF)
	return nil
}

// reset is called on the server's end. It resets the direction to the client first: otherwise a handler that learns that
// reading has failed could still send an answer.
func (c *memConn) reset() {
	c.out.reset(errReset)
	c.in.reset(errReset)
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

// explain wraps an error as package net does. io.EOF is returned as it is.
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

// reset makes the kernel send RST and drop unsent data, by a linger of zero. On a closed connection both calls fail, and
// nothing needs to be done.
func (c tcpConn) reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}
