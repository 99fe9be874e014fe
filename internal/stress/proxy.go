package main

import (
	"errors"
	"io"
	"net"
	"sync"
)

// proxy forwards connections to the server, and can reset all of them at once.
type proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex // guards conns and resets; held while connections are reset, which does not wait
	conns  map[*net.TCPConn]bool
	resets int // connections that were reset
	done   sync.WaitGroup
}

func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, conns: map[*net.TCPConn]bool{}}
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
		a, b := in.(*net.TCPConn), out.(*net.TCPConn)
		p.add(a, b)
		p.done.Go(func() { p.forward(a, b) })
		p.done.Go(func() { p.forward(b, a) })
	}
}

// forward copies one direction until it ends, and then ends the other one too.
func (p *proxy) forward(from, to *net.TCPConn) {
	_, _ = io.Copy(to, from) // an error ends the copy as well
	p.remove(from, to)
	_, _ = from.Close(), to.Close()
}

func (p *proxy) add(conns ...*net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
}

func (p *proxy) remove(conns ...*net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// reset resets every connection. Data in transit is lost in both directions.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.SetLinger(0) // fails if the connection has ended already, as Close does
		_ = c.Close()
		p.resets++
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
