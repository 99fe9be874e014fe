package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// proxy forwards connections to the server. It can reset all of them at once, and can replace the server's next answer on
// each of them by a page of its own.
type proxy struct {
	listener net.Listener
	target   string

	mu       sync.Mutex // guards pairs and resets; held while connections are reset, which does not wait
	pairs    map[*pair]bool
	resets   int // connections that were reset
	replaced atomic.Int64
	done     sync.WaitGroup
}

// pair is a client's connection and the one to the server that it is forwarded to.
type pair struct {
	client, server *net.TCPConn
	replace        atomic.Bool // the next bytes from the server are replaced by a page
}

// page is an answer of the proxy. The client cannot know from it whether the server has acted.
const page = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 20\r\nConnection: close\r\n\r\n<html>sorry</html>\r\n"

func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, pairs: map[*pair]bool{}}
	p.done.Go(p.accept)
	return p, nil
}

func (p *proxy) url() string { return "http://" + p.listener.Addr().String() }

// accept forwards connections until the listener is closed.
func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close() // the client sees that the server closes the connection
			continue
		}
		c := &pair{client: in.(*net.TCPConn), server: out.(*net.TCPConn)}
		p.add(c)
		p.done.Go(func() {
			_, _ = io.Copy(c.server, c.client) // an error ends the copy as well
			p.end(c)
		})
		p.done.Go(func() {
			_, _ = io.Copy(c.client, answers{p, c})
			p.end(c)
		})
	}
}

// answers reads what the server sends on a pair, or the page in its place.
type answers struct {
	proxy *proxy
	pair  *pair
}

func (a answers) Read(b []byte) (int, error) {
	n, err := a.pair.server.Read(b)
	if err != nil || !a.pair.replace.Load() {
		return n, err
	}
	a.proxy.replaced.Add(1)
	return copy(b, page), io.EOF
}

// end closes both connections of a pair.
func (p *proxy) end(c *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pairs, c)
	_, _ = c.client.Close(), c.server.Close() // the only error is that they are closed already
}

func (p *proxy) add(c *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pairs[c] = true
}

// reset resets every connection. Data in transit is lost in both directions.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		for _, end := range []*net.TCPConn{c.client, c.server} {
			_ = end.SetLinger(0) // fails if the connection has ended already, as Close does
			_ = end.Close()
			p.resets++
		}
	}
}

// replaceAnswers replaces the next answer on every connection, after the server has acted.
func (p *proxy) replaceAnswers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		c.replace.Store(true)
	}
}

func (p *proxy) close() error {
	err := p.listener.Close()
	p.reset()
	p.done.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
