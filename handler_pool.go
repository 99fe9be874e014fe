package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/failurelog"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/outputs"
)

// handlerPool runs the handlers of a Subscriber and settles the deliveries that they are called with. It works on
// batches: Handle and Pipe have batches of one.
type handlerPool struct {
	sub     *Subscriber
	cfg     HandlerConfig
	ctx     context.Context // of Handle: its end is a stop
	values  context.Context // ctx without its end: it holds the values of the handlers' contexts
	handle  func(context.Context, []Delivery) ([]Message, error)
	pass    func(Delivery, []Message)             // sends the messages that a delivery's transform returned; Pipe only
	busy    atomic.Int64                          // deliveries that handlers are working on
	outputs *outputs.Set[failurelog.ID, Delivery] // deliveries whose output messages are in flight
	dead    *deadLetters                          // nil without a DeadLetter
	backoff RetryConfig
	fatal   atomic.Pointer[error] // why the pool stopped the Subscriber
	workers []handlerWorker
	made    time.Time // the zero of clock
	late    overruns  // handlers that have returned
	hanging overruns  // handlers that have not
}

// handlerWorker is what the loop sees of a worker: whether it serves a batch, and which. Only the worker writes call, and
// only while it is idle. The loop reads it only while the worker is inspected, and a worker that ends its call meanwhile
// waits until the loop has done so. A call costs no lock that way.
type handlerWorker struct {
	state      atomic.Int32 // idle, serving or inspected
	inspection sync.Mutex   // held by the loop while the worker is inspected
	call       handlerCall
	_          [64]byte // no part of a cache line of another worker: it is written twice for each call
}

// The states of a handlerWorker.
const (
	idle int32 = iota
	serving
	inspected // and serving
)

// handlerCall is what is known of a handler that has not returned.
type handlerCall struct {
	key      string
	deadline time.Time // the first of its batch
	state    *deliveryState
	began    time.Duration // a time of handlerPool.clock
	logged   bool
}

// begin notes that the worker serves a batch, whose lease ends first for first.
func (w *handlerWorker) begin(first Delivery, began time.Duration) {
	w.call = handlerCall{key: first.Key, deadline: first.Deadline, state: first.state, began: began}
	w.state.Store(serving)
}

// end notes that the batch is settled.
func (w *handlerWorker) end() {
	if w.state.Swap(idle) == inspected {
		w.inspection.Lock() // wait for the loop
		defer w.inspection.Unlock()
	}
	w.call = handlerCall{} // it would keep the key in memory
}

// overdue returns the worker's call if its handler has not returned although the lease of its delivery is over. It returns
// a call once.
func (w *handlerWorker) overdue(now time.Time) (call handlerCall, ok bool) {
	w.inspection.Lock()
	defer w.inspection.Unlock()
	if !w.state.CompareAndSwap(serving, inspected) {
		return call, false
	}
	defer w.state.CompareAndSwap(inspected, serving)
	if w.call.logged || w.call.state.settled.Load() || !lease.Past(now, w.call.deadline) {
		return call, false
	}
	w.call.logged = true
	return w.call, true
}

// newHandlerPool takes the Subscriber's deliveries for handlers.
func newHandlerPool(ctx context.Context, s *Subscriber, cfg HandlerConfig) (*handlerPool, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(s.cfg, s.origin); err != nil {
		return nil, err
	}
	p := &handlerPool{sub: s, cfg: cfg, ctx: ctx, values: context.WithoutCancel(ctx), outputs: outputs.New[failurelog.ID](func(a, b Delivery) bool { return a.Deadline.After(b.Deadline) }),
		backoff: RetryConfig{MinWait: cfg.BackoffMin, MaxWait: cfg.BackoffMax},
		workers: make([]handlerWorker, cfg.Workers), made: time.Now()}
	if cfg.DeadLetter != nil {
		if err := findDeadLetterStream(ctx, s.client, cfg.DeadLetter.Stream); err != nil {
			return nil, err
		}
		dead, err := newDeadLetters(p)
		if err != nil {
			return nil, err
		}
		p.dead = dead
	}
	if !s.setMode(modeHandlers) {
		return nil, ErrBusy
	}
	s.handlers.Store(&handlerWatch{serving: p.serving, logHanging: p.logHanging})
	s.wake() // everything moves to the channel
	s.breaker.SetPace(func(step int) time.Duration { return p.backoff.wait(step, nil) })
	return p, nil
}

// run starts Workers goroutines that call work. It returns when the Subscriber has stopped and all of them have ended,
// or handlerGrace is over.
func (p *handlerPool) run(work func(*handlerWorker)) error {
	stop := context.AfterFunc(p.ctx, p.sub.softStop)
	defer stop()
	exited := make(chan struct{}, p.cfg.Workers)
	for i := range p.workers {
		go p.work(work, &p.workers[i], exited)
	}
	<-p.sub.hard.Done() // now the contexts of the handlers have ended
	grace := time.NewTimer(handlerGrace)
	defer grace.Stop()
	<-p.sub.done
	left := p.awaitWorkers(exited, grace)
	if p.dead != nil {
		p.dead.close()
	}
	err := p.sub.Err()
	if fatal := p.fatal.Load(); fatal != nil {
		err = *fatal
	}
	err = errors.Join(err, p.sub.shutdown.result())
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d of %d ignore the end of their context", ErrHandlersRunning, left, p.cfg.Workers))
	}
	return err
}

// awaitWorkers waits for the workers until grace is over, and returns how many are still running then.
func (p *handlerPool) awaitWorkers(exited <-chan struct{}, grace *time.Timer) (left int) {
	for left = p.cfg.Workers; left > 0; left-- {
		select {
		case <-exited:
			continue // also if grace is over as well
		default:
		}
		select {
		case <-exited:
		case <-grace.C:
			return left
		}
	}
	return 0
}

// serving reports whether a worker has deliveries that it has not settled yet.
func (p *handlerPool) serving() bool {
	for i := range p.workers {
		if p.workers[i].state.Load() != idle {
			return true
		}
	}
	return false
}

// logHanging logs handlers that have not returned although the leases of their deliveries are over. Those of them that
// return at all are logged and counted once more then. The loop calls it when leases have ended with unsettled messages.
func (p *handlerPool) logHanging(now time.Time) {
	for i := range p.workers {
		call, ok := p.workers[i].overdue(now)
		if !ok {
			continue
		}
		if since, ok := p.hanging.report(now, 1); ok {
			p.sub.log(slog.LevelWarn, "has a handler that has not returned within its lease, so that its message is delivered again",
				"key", clip(call.key), "running for", p.clock()-call.began, "handlers", since)
		}
	}
}

// work calls work as worker w. A handler that ends its goroutine, as a test's FailNow does, ends the worker, and another
// one is started.
func (p *handlerPool) work(work func(*handlerWorker), w *handlerWorker, exited chan<- struct{}) {
	returned := false
	defer func() {
		if returned {
			exited <- struct{}{} // has room for every worker
			return
		}
		go p.work(work, w, exited)
	}()
	work(w)
	returned = true
}

// serveEach serves the deliveries of the channel, one after the other. It is the work of Handle and Pipe.
func (p *handlerPool) serveEach(w *handlerWorker) {
	one := make([]Delivery, 1)
	for d := range p.sub.deliveries {
		one[0] = d
		p.serve(w, one)
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
func (p *handlerPool) serve(w *handlerWorker, batch []Delivery) {
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
	first, began := firstToExpire(batch), p.clock()
	var out []Message
	err := error(&PanicError{Value: errExited}) // unless the handler returns
	defer func() {
		if panicked := recovered("", recover()); panicked != nil {
			err = panicked
		}
		p.busy.Add(int64(-len(batch)))
		p.conclude(batch, out, err, began)
		w.end()
		if p.sub.hard.Err() != nil {
			p.sub.wake() // the stop may wait for this call
		}
	}()
	w.begin(first, began)
	p.busy.Add(int64(len(batch)))
	out, err = p.handle(handlerContext{first.Context(), p.values}, batch)
}

// disposition is what a worker does with a delivery that it has read.
type disposition uint8

const (
	callHandler       disposition = iota
	returnUndelivered             // nack it at once: its lease is over, or the breaker lets only a probe through
	joinOutputs                   // output messages of an earlier delivery of the message are in flight: it is settled with them
	ackOnly                       // its dead letter has been sent: only the ack is missing
	sendDeadLetter                // send it to the dead letters without another handler call
)

// dispositionOf decides what becomes of a delivery. It changes nothing.
func (p *handlerPool) dispositionOf(d Delivery) disposition {
	switch {
	case !p.sub.breaker.Admit(d.state), lease.Past(time.Now(), d.Deadline): // the process was paused meanwhile
		return returnUndelivered
	case p.outputs.InFlight(failureID(d)):
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
			if !p.outputs.TakeOver(failureID(d), d) {
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

// firstToExpire returns the delivery of a batch whose lease ends first. It ends the handler's context.
func firstToExpire(batch []Delivery) Delivery {
	first := batch[0]
	for _, d := range batch[1:] {
		if d.Deadline.Before(first.Deadline) {
			first = d
		}
	}
	return first
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
