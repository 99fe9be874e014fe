package main

import (
	"bufio"
	"fmt"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
)

// pool is the application: what it does with a message is to print it, and to take its time.
type pool struct {
	each time.Duration // how long that is
	stop func()        // of the subscription

	mu  sync.Mutex // guards all below
	out *bufio.Writer
	err error // the first that out gave
}

// work ranges over the deliveries with n goroutines until the channel closes, or out fails, and the last of them is done.
func (p *pool) work(sub *sequin.Subscriber, n int) error {
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for d := range sub.Deliveries() {
				if !p.one(d) {
					return // the channel is closed by the stop, and what it holds given back
				}
			}
		})
	}
	workers.Wait()
	return p.err
}

// one works on a message and settles it: after the work, so that a crash in between costs a repeat and not the message.
// The errors of Ack and Nack are that the lease is over: somebody else has, or will have, the message. It returns false
// when there is no point in another one.
func (p *pool) one(d sequin.Delivery) bool {
	if err := p.print(d); err != nil {
		p.stop() // first: what is nacked goes to whoever receives
		_ = d.Nack()
		return false
	}
	select {
	case <-time.After(p.each):
		_ = d.Ack()
	case <-d.Context().Done(): // too late, or cut off: not worth finishing
	}
	return true
}

// print writes a line and sees it out of the program: what is only buffered is not done.
func (p *pool) print(d sequin.Delivery) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, "%s\t%s\n", d.Key, d.Data)
	}
	if p.err == nil {
		p.err = p.out.Flush()
	}
	return p.err
}
