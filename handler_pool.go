package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/background"
	"github.com/sequin-go/sequin/internal/failurelog"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/outputs"
)

// handlerPool runs the handlers of a Subscriber and settles the deliveries that they are called with. It works on
// batches: Handle and Pipe have batches of one.
type handlerPool struct {
	sub     *Subscriber
	cfg     HandlerConfig
	ctx     context.Context // that of Handle; when it ends the Subscriber stops
	values  context.Context // ctx without its end: it holds the values of the handlers' contexts
	handle  func(context.Context, []Delivery) ([]Message, error)
	pass    func(Delivery, []Message)             // sends the messages that a delivery's transform returned; Pipe only
	busy    atomic.Int64                          // deliveries that handlers are working on
	aside   background.Group                      // reports of output messages and dead letters that failed: see reportAside
	outputs *outputs.Set[failurelog.ID, Delivery] // deliveries whose output messages are in flight
	dead    *deadLetters                          // nil without a DeadLetter
	backoff RetryConfig
	fatal   atomic.Pointer[error] // why the pool stopped the Subscriber
	workers []handlerWorker
	made    time.Time // the zero of clock
	late    overruns  // handlers that have returned
	hanging overruns  // handlers that have not
}

// handlerWorker is the part of a worker's state that the loop reads: whether it serves a batch, and which one. Only the
// worker writes call, and only while it is idle. The loop reads call only while the worker is inspected, and a worker that
// ends its call at that time waits for the loop. A call therefore needs no lock.
type handlerWorker struct {
	state      atomic.Int32 // idle, serving or inspected
	inspection sync.Mutex   // held by the loop while the worker is inspected
	call       handlerCall
	_          [64]byte // keeps workers in different cache lines, because each call writes state twice
}

// The states of a handlerWorker.
const (
	idle int32 = iota
	serving
	inspected // serving, and the loop reads its call
)

// handlerCall describes the call of a handler that has not returned.
type handlerCall struct {
	key      string
	deadline time.Time // the earliest of its batch
	state    *deliveryState
	began    time.Duration // a time of handlerPool.clock
	logged   bool
}

// begin records that the worker serves a batch. first is the delivery whose lease ends first.
func (w *handlerWorker) begin(first Delivery, began time.Duration) {
	w.call = handlerCall{key: first.Key, deadline: first.Deadline, state: first.state, began: began}
	w.state.Store(serving)
}

// end records that the batch is settled.
func (w *handlerWorker) end() {
	if w.state.Swap(idle) == inspected {
		w.inspection.Lock() // wait for the loop
		defer w.inspection.Unlock()
	}
	w.call = handlerCall{} // or it would keep the key in memory
}

// overdue returns the worker's call if its handler has not returned although the lease of its delivery is over. It returns
// each call once.
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

// newHandlerPool returns a pool for the Subscriber's deliveries, which no other reader gets from then on.
func newHandlerPool(ctx context.Context, s *Subscriber, cfg HandlerConfig) (*handlerPool, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(s.cfg, s.origin); err != nil {
		return nil, err
	}
	p := &handlerPool{sub: s, cfg: cfg, ctx: ctx, values: context.WithoutCancel(ctx),
		outputs: outputs.New[failurelog.ID](func(a, b Delivery) bool { return a.Deadline.After(b.Deadline) }),
		backoff: RetryConfig{MinWait: cfg.BackoffMin, MaxWait: cfg.BackoffMax},
		workers: make([]handlerWorker, cfg.Workers), made: time.Now()}
	if cfg.DeadLetter != nil {
		if err := findDeadLetterStream(ctx, cfg.DeadLetter.client(s), cfg.DeadLetter.Stream); err != nil {
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
	s.wake() // the loop moves all deliveries to the channel
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
	<-p.sub.hard.Done() // the contexts of the handlers have ended
	grace, cancel := context.WithTimeout(context.Background(), handlerGrace)
	defer cancel()
	<-p.sub.done
	running := p.awaitWorkers(exited, grace.Done())
	if p.dead != nil {
		p.dead.close()
	}
	p.aside.Await(grace, 1)
	err := p.sub.Err()
	if fatal := p.fatal.Load(); fatal != nil {
		err = *fatal
	}
	err = errors.Join(err, p.sub.stop.result())
	if running > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d of %d ignore the end of their context", ErrHandlersRunning, running, p.cfg.Workers))
	}
	return err
}

// awaitWorkers waits for the workers until grace is over, and returns how many are still running then.
func (p *handlerPool) awaitWorkers(exited, grace <-chan struct{}) (running int) {
	for running = p.cfg.Workers; running > 0; running-- {
		select {
		case <-exited:
			continue // even if grace is over
		default:
		}
		select {
		case <-exited:
		case <-grace:
			return running
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

// logHanging logs handlers that have not returned although the leases of their deliveries are over. A handler that returns
// later is then logged and counted by outlived. The loop calls logHanging when leases have ended with unsettled messages.
func (p *handlerPool) logHanging(now time.Time) {
	for i := range p.workers {
		call, ok := p.workers[i].overdue(now)
		if !ok {
			continue
		}
		if since, ok := p.hanging.report(now, 1); ok {
			p.sub.log(slog.LevelWarn, "has a handler that has not returned within its lease, so that its message is redelivered",
				"key", clip(call.key), "running_for", p.clock()-call.began, "handlers", since)
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

// serveEach serves the deliveries of the channel, one after the other. Handle and Pipe pass it to run.
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

// serve calls the handler with the deliveries that need a call, and settles all of the batch. It reuses the memory of batch.
func (p *handlerPool) serve(w *handlerWorker, batch []Delivery) {
	p.aside.Await(p.sub.soft, p.sub.cfg.MaxInFlight)
	n := 0
	for _, d := range batch {
		if !p.settleWithoutHandler(d) {
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
			p.sub.wake() // a stop may be waiting for this call
		}
	}()
	w.begin(first, began)
	p.busy.Add(int64(len(batch)))
	out, err = p.handle(handlerContext{first.Context(), p.values}, batch)
}

// verdict is what a worker does with a delivery that it has read.
type verdict uint8

const (
	callHandler    verdict = iota
	nackAtOnce             // nack it: its lease is over, or the breaker lets only a probe through
	joinOutputs            // settle it with the output messages of an earlier delivery of the message, which are in flight
	ackOnly                // ack it: its dead letter has been sent
	sendDeadLetter         // send a dead letter without another handler call
)

// decide returns the verdict on a delivery. It changes nothing.
func (p *handlerPool) decide(d Delivery) verdict {
	switch {
	case !p.sub.breaker.Admit(d.state), lease.Past(time.Now(), d.Deadline): // the process may have been paused
		return nackAtOnce
	case p.outputs.InFlight(failureID(d)):
		return joinOutputs
	case p.dead == nil:
		return callHandler
	}
	return p.dead.decide(d)
}

// settleWithoutHandler settles a delivery that needs no call of its handler, as decide says. It reports false if the handler
// must be called.
func (p *handlerPool) settleWithoutHandler(d Delivery) (handled bool) {
	for {
		switch p.decide(d) {
		case callHandler:
			return false
		case nackAtOnce:
			p.sub.returnFromHandler(d)
			return true
		case joinOutputs:
			if !p.outputs.TakeOver(failureID(d), d) {
				continue // they have ended since decide: decide again
			}
			p.sub.failures.Update(failureID(d), func(r *failurelog.Record) { r.Survived++ })
		case ackOnly:
			p.ack(d, p.report)
		case sendDeadLetter:
			p.dead.sendUnhandled(d)
		}
		p.inconclusive([]Delivery{d}, time.Now()) // the handler was not called
		return true
	}
}

// firstToExpire returns the delivery of a batch whose lease ends first. The handler's context ends with that lease.
func firstToExpire(batch []Delivery) Delivery {
	first := batch[0]
	for _, d := range batch[1:] {
		if d.Deadline.Before(first.Deadline) {
			first = d
		}
	}
	return first
}

// handlerContext ends when a lease ends, and has the values of the ctx that Handle was called with. Neither it nor a context
// derived from it needs a timer or goroutine of its own. Package context finds the parent to attach to through Value. values
// comes from context.WithoutCancel, which hides its own parent, so that Value finds the lease's context.
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
