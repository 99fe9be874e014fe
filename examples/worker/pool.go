package main

import (
	"bufio"
	"fmt"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
)

// pool is the application. Its work on a message is to print it and to wait.
type pool struct {
	each time.Duration // how long it waits
	stop func()        // stops the Subscriber

	mu  sync.Mutex // guards all below
	out *bufio.Writer
	err error // the first error of out
}

// work ranges over the deliveries with n goroutines. It returns when the channel is closed or out has failed, and every
// goroutine has ended.
func (p *pool) work(sub *sequin.Subscriber, n int) error {
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for d := range sub.Deliveries() {
				if !p.handle(d) {
					return // the stop returns what is in the channel to the server
				}
			}
		})
	}
	workers.Wait()
	return p.err
}

// handle prints a message and settles it afterwards, so that a crash in between repeats the message and does not lose it. It
// ignores the errors of Ack and Nack: they say that the lease has ended, and then the message is redelivered. It returns
// false when the output has failed.
func (p *pool) handle(d sequin.Delivery) bool {
	if err := p.print(d); err != nil {
		p.stop() // before the nack, which could otherwise bring the message back to this Subscriber
		_ = d.Nack()
		return false
	}
	select {
	case <-time.After(p.each):
		_ = d.Ack()
	case <-d.Context().Done(): // the lease, or the wait of the stop, is over
	}
	return true
}

// print writes a line and flushes it: a line that is only buffered is not printed.
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
