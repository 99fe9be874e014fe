package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/failurelog"
	"github.com/sequin-go/sequin/internal/lease"
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

// conclude settles a batch according to what its handler returned.
func (p *handlerPool) conclude(batch []Delivery, out []Message, err error) {
	switch {
	case err != nil:
		p.failed(batch, err, true)
	case len(out) > 0:
		p.pass(batch[0], out)
	default:
		p.succeeded(batch)
	}
}

// succeeded acks the deliveries that the handler has not settled itself.
func (p *handlerPool) succeeded(batch []Delivery) {
	if p.sub.breaker.Succeeded() {
		p.sub.log(slog.LevelInfo, "handles messages at full speed again")
		p.sub.wake()
	}
	for _, d := range batch {
		p.clearFailures(d)
		p.ack(d)
	}
}

// clearFailures forgets the failures of a message that has been handled. If acks do not arrive the message is redelivered.
// One that is redelivered often could then be taken for a message that ends processes, so its deliveries are recorded as
// survived.
func (p *handlerPool) clearFailures(d Delivery) {
	if p.dead == nil || d.Attempt < p.dead.cfg.MaxAttempts || lease.Past(time.Now(), d.Deadline) {
		p.sub.failures.Forget(failureID(d))
		return
	}
	p.sub.failures.Update(failureID(d), func(r *failurelog.Record) {
		*r = failurelog.Record{Survived: r.Survived + r.Failures + 1}
	})
}

// failed nacks the deliveries that the handler has not settled itself, or sends them to the dead letters. counts says
// whether the messages themselves may be at fault.
func (p *handlerPool) failed(batch []Delivery, err error, counts bool) {
	now, text := time.Now(), failurelog.Text(err)
	single, final := len(batch) == 1, counts && isPermanent(err)
	p.logError(slog.LevelWarn, "got an error from a handler", batch[0], err, "deliveries", len(batch))
	fresh, reported := false, false
	for _, d := range batch {
		settled := d.state.settled.Load()
		if settled && !single {
			continue // of several, those that the handler settled are not the ones that failed
		}
		r := p.sub.failures.Update(failureID(d), func(r *failurelog.Record) {
			r.Note(now, text, counts)
			r.Isolate = r.Isolate || final
			r.Dead = r.Dead || single && counts && (final || p.dead != nil && r.Tries >= p.dead.cfg.MaxAttempts)
		})
		if !settled {
			p.retry(d, r, final)
		}
		fresh = fresh || r.Failures == 1 || p.sub.placesTaken()
		p.report(d, err)
		reported = true
	}
	if !reported {
		p.report(batch[0], err)
	}
	if single && final && !p.sub.placesTaken() {
		p.inconclusive(batch, now)
	} else {
		p.callFailed(batch, fresh, now)
	}
}

// retry nacks a delivery after its message's backoff, or sends it to the dead letters. One that can no longer be nacked is
// redelivered when its lease ends.
func (p *handlerPool) retry(d Delivery, r failurelog.Record, final bool) {
	switch {
	case r.Dead && p.dead != nil:
		p.dead.send(d, r)
	case r.Dead && final:
		_ = d.NackAfter(p.cfg.BackoffMax)
	default:
		_ = d.NackAfter(p.backoff.wait(r.Failures-1, nil))
	}
}

// callFailed notes a failed call with the breaker. fresh says that one of its messages had never failed before, or that no
// more nacks can be delayed: messages that fail again and again would otherwise be tried over and over without a pause.
func (p *handlerPool) callFailed(batch []Delivery, fresh bool, now time.Time) {
	if opened, wait := p.sub.breaker.Failed(contains(batch), fresh, now); opened {
		p.sub.log(slog.LevelWarn, "tries one message at a time, because handlers fail", "next in", wait)
		p.sub.wake()
	}
}

// inconclusive tells the breaker that what became of a batch says nothing about the handler.
func (p *handlerPool) inconclusive(batch []Delivery, now time.Time) {
	if p.sub.breaker.Inconclusive(contains(batch), now) {
		p.sub.wake()
	}
}

// contains returns a function that reports whether a delivery with that state is in the batch.
func contains(batch []Delivery) func(*deliveryState) bool {
	return func(state *deliveryState) bool {
		return slices.ContainsFunc(batch, func(d Delivery) bool { return d.state == state })
	}
}

// ack acks a delivery, unless it is settled, and reports an ack that comes too late.
func (p *handlerPool) ack(d Delivery) {
	if err := d.Ack(); err != nil && !errors.Is(err, ErrSettled) {
		p.report(d, err)
	}
}

func (p *handlerPool) report(d Delivery, err error) {
	if p.cfg.OnError == nil {
		return
	}
	if panicked := callApart("OnError", func() { p.cfg.OnError(d, err) }); panicked != nil {
		p.logError(slog.LevelError, "recovered a panic of OnError", d, panicked)
	}
}

// logError logs an error that concerns a delivery. A panic is logged as an error at any level.
func (p *handlerPool) logError(level slog.Level, what string, d Delivery, err error, args ...any) {
	if _, ok := err.(*PanicError); ok {
		level = slog.LevelError
	}
	p.sub.log(level, what, append(errorAttrs(d.Key, err), args...)...)
}
