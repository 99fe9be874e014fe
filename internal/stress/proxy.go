package main

import (
	"errors"
	"io"
	"net"
	"sync"
)

// proxy passes connections on to the server, and can cut all of them at once.
type proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex // guards conns; held while cutting, which does not wait
	conns map[*net.TCPConn]bool
	cuts  int
	done  sync.WaitGroup
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

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close() // the client sees a connection that ends, as it would see of a server that is gone
			continue
		}
		a, b := in.(*net.TCPConn), out.(*net.TCPConn)
		p.add(a, b)
		p.done.Go(func() { p.pass(a, b) })
		p.done.Go(func() { p.pass(b, a) })
	}
}

// pass copies one direction; when it ends, so does the other.
func (p *proxy) pass(from, to *net.TCPConn) {
	_, _ = io.Copy(to, from) // however it ends
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

// cut resets every connection: what is on the way is lost, in both directions.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.SetLinger(0) // fails for one that has ended already, and so does Close
		_ = c.Close()
		p.cuts++
	}
}

func (p *proxy) close() error {
	err := p.listener.Close()
	p.cut()
	p.done.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
