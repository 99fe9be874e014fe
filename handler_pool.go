package sequin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/failurelog"
)

// handlerPool runs the handlers of a Subscriber and settles the deliveries that they are called with. It works on
// batches: Handle and Pipe have batches of one.
type handlerPool struct {
	sub     *Subscriber
	cfg     HandlerConfig
	values  context.Context // holds the values of the handlers' contexts
	handle  func(context.Context, []Delivery) ([]Message, error)
	pass    func(Delivery, []Message) // sends the messages that a delivery's transform returned; Pipe only
	busy    atomic.Int64              // deliveries that handlers are working on
	outputs outputs
	dead    *deadLetters // nil without a DeadLetter
	backoff RetryConfig
	fatal   atomic.Pointer[error] // why the pool stopped the Subscriber
}

// handlerGrace is how long handlers get to return after their contexts have ended and the Subscriber has stopped. That is
// time for a rollback, not for more work.
const handlerGrace = time.Second

// newHandlerPool takes the Subscriber's deliveries for handlers.
func newHandlerPool(ctx context.Context, s *Subscriber, cfg HandlerConfig) (*handlerPool, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(s); err != nil {
		return nil, err
	}
	p := &handlerPool{sub: s, cfg: cfg, values: context.WithoutCancel(ctx), outputs: newOutputs(),
		backoff: RetryConfig{MinWait: cfg.BackoffMin, MaxWait: cfg.BackoffMax}}
	if cfg.DeadLetter != nil {
		dead, err := newDeadLetters(p)
		if err != nil {
			return nil, err
		}
		p.dead = dead
	}
	if !s.setMode(modeHandlers) {
		return nil, ErrBusy
	}
	s.breaker.SetPace(func(step int) time.Duration { return p.backoff.wait(step, nil) })
	return p, nil
}

// run starts Workers goroutines that call work. It returns when the Subscriber has stopped and all of them have ended,
// or handlerGrace is over.
func (p *handlerPool) run(ctx context.Context, work func()) error {
	stop := context.AfterFunc(ctx, p.sub.softStop)
	defer stop()
	exited := make(chan struct{}, p.cfg.Workers)
	for range p.cfg.Workers {
		go p.worker(work, exited)
	}
	<-p.sub.done
	left := p.awaitWorkers(exited)
	if p.dead != nil {
		p.dead.close()
	}
	err := p.sub.Err()
	if fatal := p.fatal.Load(); fatal != nil {
		err = *fatal
	}
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d of %d ignore the end of their context", ErrHandlersRunning, left, p.cfg.Workers))
	}
	return err
}

// awaitWorkers waits for the workers, for handlerGrace at most, and returns how many are still running.
func (p *handlerPool) awaitWorkers(exited <-chan struct{}) (left int) {
	grace := time.NewTimer(handlerGrace)
	defer grace.Stop()
	for left = p.cfg.Workers; left > 0; left-- {
		select {
		case <-exited:
		case <-grace.C:
			return left
		}
	}
	return 0
}

// worker calls work. A handler that ends its goroutine, as a test's FailNow does, ends the worker, and another one is
// started.
func (p *handlerPool) worker(work func(), exited chan<- struct{}) {
	returned := false
	defer func() {
		if returned {
			exited <- struct{}{} // has room for every worker
			return
		}
		go p.worker(work, exited)
	}()
	work()
	returned = true
}

// serveEach serves the deliveries of the channel, one after the other. It is the work of Handle and Pipe.
func (p *handlerPool) serveEach() {
	one := make([]Delivery, 1)
	for d := range p.sub.deliveries {
		one[0] = d
		p.serve(one)
	}
}

// abort stops the Subscriber because of err, unless it is stopping already.
func (p *handlerPool) abort(err error) {
	if p.sub.soft.Err() == nil {
		p.fatal.CompareAndSwap(nil, &err)
		p.sub.softStop()
	}
}

// serve calls the handler with those deliveries of a batch that it is to see, and settles all of them. It reuses the
// memory of batch.
func (p *handlerPool) serve(batch []Delivery) {
	n := 0
	for _, d := range batch {
		if p.dispose(d) {
			batch[n] = d
			n++
		}
	}
	if n == 0 {
		return
	}
	batch = batch[:n]
	var out []Message
	err := error(&PanicError{Value: errExited}) // unless the handler returns
	defer func() {
		if panicked := recovered("", recover()); panicked != nil {
			err = panicked
		}
		p.busy.Add(int64(-len(batch)))
		p.conclude(batch, out, err)
	}()
	p.busy.Add(int64(len(batch)))
	out, err = p.handle(p.contextOf(batch), batch)
}

// disposition is what a worker does with a delivery that it has read.
type disposition uint8

const (
	callHandler       disposition = iota
	returnUndelivered             // nack it at once: the breaker lets only a probe through
	joinOutputs                   // output messages of an earlier delivery of the message are in flight: it is settled with them
	ackOnly                       // its dead letter has been sent: only the ack is missing
	sendDeadLetter                // send it to the dead letters without another handler call
)

// dispositionOf decides what becomes of a delivery. It changes nothing.
func (p *handlerPool) dispositionOf(d Delivery) disposition {
	switch {
	case !p.sub.breaker.Admit(d.state):
		return returnUndelivered
	case p.outputs.inFlight(d):
		return joinOutputs
	case p.dead == nil:
		return callHandler
	}
	return p.dead.dispositionOf(d)
}

// dispose does what dispositionOf says, and reports whether the handler is to be called.
func (p *handlerPool) dispose(d Delivery) (handle bool) {
	for {
		switch p.dispositionOf(d) {
		case callHandler:
			return true
		case returnUndelivered:
			p.sub.returnUndelivered(d)
			return false
		case joinOutputs:
			if !p.outputs.takeOver(d) {
				continue // they have ended since: look again
			}
			p.sub.failures.Update(failureID(d), func(r *failurelog.Record) { r.Survived++ })
		case ackOnly:
			p.ack(d)
		case sendDeadLetter:
			p.dead.sendUnhandled(d)
		}
		p.inconclusive([]Delivery{d}, time.Now()) // the handler was not called
		return false
	}
}

// freshest moves a delivery whose message has never failed to the front: it makes the better probe.
func (s *Subscriber) freshest(got []Delivery) {
	i := slices.IndexFunc(got, func(d Delivery) bool { return s.failures.Get(failureID(d)).Failures == 0 })
	if i > 0 {
		got[0], got[i] = got[i], got[0]
	}
}

// failureID identifies the message of a delivery, this version of it.
func failureID(d Delivery) failurelog.ID { return failurelog.ID{Key: d.Key, Seq: d.Seq} }

// contextOf returns a handler's context, which ends with the first of the batch's leases.
func (p *handlerPool) contextOf(batch []Delivery) context.Context {
	first := batch[0]
	for _, d := range batch[1:] {
		if d.Deadline.Before(first.Deadline) {
			first = d
		}
	}
	return handlerContext{first.Context(), p.values}
}

// handlerContext ends when a lease ends, and has the values of the ctx that Handle was called with. It needs no timer and
// no goroutine of its own, nor do contexts derived from it: package context looks for the parent to attach to through
// Value, and values, which comes from context.WithoutCancel, hides its own parent from that, so that the lease's context
// is found.
type handlerContext struct {
	context.Context
	values context.Context
}

func (c handlerContext) Value(key any) any {
	if v := c.values.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}
