package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/background"
	"github.com/sequin-go/sequin/internal/calls"
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
	pass    func(context.Context, Delivery, []Message) // sends the messages that a delivery's transform returned; Pipe only
	busy    atomic.Int64                               // deliveries that handlers are working on
	aside   background.Group                           // reports of output messages and dead letters that failed: see reportAside
	outputs *outputs.Set[failurelog.ID, Delivery]      // deliveries whose output messages are in flight
	dead    *deadLetters                               // nil without a DeadLetter
	backoff RetryConfig
	fatal   atomic.Pointer[error] // why the pool stopped the Subscriber
	workers []calls.Worker
	made    time.Time // the zero of clock
	late    overruns  // handlers that have returned
	hanging overruns  // handlers that have not
}

// newHandlerPool returns a pool for the Subscriber's deliveries, which no other reader gets from then on.
func newHandlerPool(ctx context.Context, s *Subscriber, cfg HandlerConfig) (*handlerPool, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(s.cfg, s.origin, s.client.extensions()); err != nil {
		return nil, err
	}
	backoff := RetryConfig{MinWait: cfg.BackoffMin, MaxWait: cfg.BackoffMax}
	if cfg.BackoffMin == NoBackoff {
		backoff.MinWait = min(defaultBackoffMin, cfg.BackoffMax)
	}
	p := &handlerPool{sub: s, cfg: cfg, ctx: ctx, values: context.WithoutCancel(ctx),
		outputs: outputs.New[failurelog.ID](func(a, b Delivery) bool { return a.state.Lease().Deadline.After(b.state.Lease().Deadline) }),
		backoff: backoff,
		workers: make([]calls.Worker, cfg.Workers), made: time.Now()}
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
	if !s.mode.set(modeHandlers) {
		return nil, ErrBusy
	}
	s.handlers.Store(&handlerWatch{serving: p.serving, logHanging: p.logHanging, overdue: p.overdue, keepLeases: p.keepLeases})
	s.wake() // the loop moves all deliveries to the channel
	s.breaker.SetPace(func(step int) time.Duration { return p.backoff.wait(step, nil) })
	return p, nil
}

// run starts Workers goroutines that call work. It returns when the Subscriber has stopped and all of them have ended,
// or handlerGrace is over.
func (p *handlerPool) run(work func(*calls.Worker)) error {
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
		if p.workers[i].Serves() {
			return true
		}
	}
	return false
}

// logHanging logs handlers that have not returned although the leases of their deliveries are over. A handler that returns
// later is then logged and counted by outlived. The loop calls logHanging when leases have ended with unsettled messages.
func (p *handlerPool) logHanging(now time.Time) {
	for i := range p.workers {
		p.workers[i].Inspect(func(call *calls.Call) {
			key, late := call.Overdue(now)
			if !late {
				return
			}
			if since, ok := p.hanging.report(now, 1); ok {
				p.sub.log.Add(slog.LevelWarn, "has a handler that has not returned within its lease, so that its message is redelivered",
					"key", clip(key), "running_for", p.clock()-call.Began, "handlers", since)
			}
		})
	}
}

// overdue counts the handlers that run and have not settled a delivery whose lease is over.
func (p *handlerPool) overdue(now time.Time) (n int) {
	for i := range p.workers {
		p.workers[i].Inspect(func(call *calls.Call) {
			if call.IsOverdue(now) {
				n++
			}
		})
	}
	return n
}

// keepLeases makes the running handlers extend their leases, and ends the contexts of those whose leases are over. It returns
// when to call it again, the zero time if nothing is due. If a lease has to be extended, others are extended early, so that
// handlers which began at different times share requests.
func (p *handlerPool) keepLeases(now time.Time) (next time.Time) {
	started := false
	next = p.keepEach(now, false, &started)
	if started {
		next = p.keepEach(now, true, &started)
	}
	return next
}

func (p *handlerPool) keepEach(now time.Time, early bool, started *bool) (next time.Time) {
	ackWait := min(p.sub.terms.Load().AckWait, MaxExtension)
	extend := func(h *lease.Held) { *started = p.sub.settler.extender().Start(h, ackWait) || *started }
	for i := range p.workers {
		p.workers[i].Inspect(func(call *calls.Call) {
			at, lost := call.Keep(now, early, extend, ErrLeaseExpired)
			if !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next = at
			}
			if lost != "" {
				p.sub.log.Add(slog.LevelWarn, "has a handler that works on a message whose lease the server has ended, so that the message is redelivered",
					"key", clip(lost), "running_for", p.clock()-call.Began)
			}
		})
	}
	return next
}

// work calls work as worker w. A handler that ends its goroutine, as a test's FailNow does, ends the worker, and another
// one is started.
func (p *handlerPool) work(work func(*calls.Worker), w *calls.Worker, exited chan<- struct{}) {
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
func (p *handlerPool) serveEach(w *calls.Worker) {
	one := make([]Delivery, 1)
	for {
		p.sub.buffer.refill()
		d, ok := <-p.sub.deliveries
		if !ok {
			return
		}
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
func (p *handlerPool) serve(w *calls.Worker, batch []Delivery) {
	p.aside.Await(p.sub.soft, p.sub.cfg.MaxInFlight)
	n := 0
	for _, d := range batch {
		if !p.settleWithoutHandler(d) {
			batch[n] = d
			n++
		}
	}
	batch = batch[:n]
	if p.dead != nil {
		batch = p.dead.announceCalls(batch)
	}
	if len(batch) == 0 {
		return
	}
	ctx, hooks := p.begin(w, batch), p.sub.client.hooks
	ctx = hooks.startHandler(ctx, batch)
	var out []Message
	err := error(&PanicError{Value: errExited}) // unless the handler returns
	defer func() {
		if panicked := recovered("", recover()); panicked != nil {
			err = panicked
		}
		if hooks != nil {
			hooks.endHandler(ctx, batch, HandlerResult{Err: err, Duration: p.clock() - w.Call().Began})
		}
		w.Call().Return()
		p.busy.Add(int64(-len(batch)))
		p.conclude(ctx, batch, out, err, w.Call().Began)
		w.End()
		if p.sub.hard.Err() != nil {
			p.sub.wake() // a stop may be waiting for this call
		}
	}()
	p.busy.Add(int64(len(batch)))
	out, err = p.handle(ctx, batch)
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

// begin records that a worker serves a batch, and returns the context of its handler.
func (p *handlerPool) begin(w *calls.Worker, batch []Delivery) (ctx context.Context) {
	call, first, extends := w.Call(), 0, false
	for i := range batch {
		d := &batch[i]
		call.Add(calls.Item{Key: d.Key, AckID: d.AckID, Delivery: d.state})
		extends = extends || d.state.Extends()
		if d.Deadline.Before(batch[first].Deadline) {
			first = i
		}
	}
	call.Began = p.clock()
	if extends {
		ctx = call.Extendable(p.sub.hard, p.values, p.made.Add(call.Began+p.cfg.MaxHandling), batch[first].Deadline)
	} else {
		ctx = handlerContext{batch[first].Context(), p.values}
	}
	w.Begin()
	return ctx
}

// handlerContext ends when a lease ends that cannot be extended, and has the values of the ctx that Handle was called with.
// Neither it nor a context derived from it needs a timer or goroutine of its own. Package context finds the parent to attach
// to through Value. values comes from context.WithoutCancel, which hides its own parent, so that Value finds the lease's
// context.
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
