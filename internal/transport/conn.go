package transport

import (
	"context"
	"io"
	"net"
)

// Dial returns a DialContext whose connections take the body of a request in one piece. net/http copies it in pieces of 32 KiB, with
// a buffer that it allocates for each request: for a batch of 1,000 small messages that is most of the memory that a send allocates.
func Dial(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &conn{c}, nil
	}
}

type conn struct{ net.Conn }

// ReadFrom writes the rest of a body, which net/http limits to the length in the request's header.
func (c *conn) ReadFrom(r io.Reader) (n int64, err error) {
	if rest, ok := r.(*io.LimitedReader); ok {
		if body, ok := rest.R.(io.WriterTo); ok {
			n, err = body.WriteTo(&limitedWriter{c.Conn, rest.N})
			rest.N -= n
			return n, err
		}
	}
	return io.Copy(c.Conn, r)
}

// limitedWriter refuses what exceeds its limit.
type limitedWriter struct {
	w    io.Writer
	left int64
}

func (l *limitedWriter) Write(p []byte) (n int, err error) {
	if int64(len(p)) > l.left {
		return 0, io.ErrShortWrite
	}
	n, err = l.w.Write(p)
	l.left -= int64(n)
	return n, err
}
