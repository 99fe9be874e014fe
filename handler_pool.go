package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// handlerPool runs handlers over a Subscriber, and decides what becomes of the deliveries that they get. It knows batches only:
// those of Handle and Pipe are of one.
type handlerPool struct {
	sub     *Subscriber
	cfg     HandlerConfig
	values  context.Context // of the handlers' contexts
	handle  func(context.Context, []Delivery) ([]Message, error)
	pass    func(Delivery, []Message) // sends what came of a delivery, and settles that; Pipe's
	busy    atomic.Int64              // deliveries that handlers have
	history *history
	transit transit
	dead    *deadLetters // nil without
	backoff RetryConfig
	fatal   atomic.Pointer[error]
}

// handlerGrace is how long handlers get to return once nothing of the Subscriber is left and their contexts have
// ended: time for a rollback, not for another piece of work.
const handlerGrace = time.Second

// newPool claims the Subscriber for handlers.
func (s *Subscriber) newPool(ctx context.Context, cfg HandlerConfig) (*handlerPool, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(s); err != nil {
		return nil, err
	}
	p := &handlerPool{sub: s, cfg: cfg, values: context.WithoutCancel(ctx), history: newHistory(),
		transit: transit{open: map[identity]*transfer{}},
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
	s.throttle.setPace(p.backoff, func(d Delivery) bool { return p.history.of(d).failures == 0 })
	return p, nil
}

// run starts Workers goroutines that work, and waits until the Subscriber is done and they are, or ignore that it is.
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

// awaitWorkers gives the workers a last moment, and returns how many remain.
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

// worker works until work returns. A handler that ends its goroutine, as a test's FailNow does, gets a successor.
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

// one handles one delivery after another.
func (p *handlerPool) one() {
	batch := make([]Delivery, 1)
	for d := range p.sub.deliveries {
		batch[0] = d
		p.serve(batch)
	}
}

// abort stops the Subscriber for a reason that is not its own. One that is stopping already needs none.
func (p *handlerPool) abort(err error) {
	if p.sub.soft.Err() == nil {
		p.fatal.CompareAndSwap(nil, &err)
		p.sub.softStop()
	}
}

// serve handles a batch, which it may shorten, and settles what is in it.
func (p *handlerPool) serve(batch []Delivery) {
	n := 0
	for _, d := range batch {
		switch {
		case !p.sub.throttle.admits(d):
			p.sub.returnUndelivered(d)
		case p.adopts(d), p.dead != nil && p.dead.takes(d):
		default:
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
		if crash := recovered("", recover()); crash != nil {
			err = crash
		}
		p.busy.Add(int64(-len(batch)))
		p.conclude(batch, out, err)
	}()
	p.busy.Add(int64(len(batch)))
	out, err = p.handle(p.contextOf(batch), batch)
}

// conclude settles a batch as its handler's result says.
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

// succeeded acks what the handler has not settled itself.
func (p *handlerPool) succeeded(batch []Delivery) {
	if p.sub.throttle.passed() {
		p.sub.log(slog.LevelInfo, "is back at full speed")
		p.sub.wake()
	}
	for _, d := range batch {
		p.survived(d)
		if err := d.Ack(); err != nil && !errors.Is(err, ErrSettled) {
			p.report(d, err)
		}
	}
}

// survived forgets the failures of a message that its handler has dealt with. Where acks do not arrive it comes again: one
// that comes often, and could be taken for what ends processes, is remembered as harmless.
func (p *handlerPool) survived(d Delivery) {
	if p.dead == nil || d.Attempt < p.dead.cfg.MaxAttempts || past(time.Now(), d.Deadline) {
		p.history.forget(d)
		return
	}
	p.history.update(d, func(r *record) { *r = record{waits: r.waits + r.failures + 1} })
}

// failed nacks what the handler has not settled itself, or sends it to the dead letters. counts says whether the failure
// may be the messages' own.
func (p *handlerPool) failed(batch []Delivery, err error, counts bool) {
	now, text := time.Now(), errorText(err)
	alone, hopeless := len(batch) == 1, counts && isPermanent(err)
	p.logFailure(batch, err)
	fresh, told := false, false
	for _, d := range batch {
		settled := d.state.settled.Load()
		if settled && !alone {
			continue // of several, those that were settled are not the ones that failed
		}
		r := p.history.update(d, func(r *record) {
			r.note(now, text, counts)
			r.alone = r.alone || hopeless
			r.doomed = r.doomed || alone && counts && (hopeless || p.dead != nil && r.attempts >= p.dead.cfg.MaxAttempts)
		})
		if !settled {
			p.retry(d, r, hopeless)
		}
		fresh = fresh || r.failures == 1 || p.sub.placesFull()
		p.report(d, err)
		told = true
	}
	if !told {
		p.report(batch[0], err)
	}
	p.slowDown(batch, fresh, alone && hopeless && !p.sub.placesFull(), now)
}

// retry lets a message come again after its backoff, or buries it. What cannot be nacked any more comes again by itself,
// at the end of its lease.
func (p *handlerPool) retry(d Delivery, r record, hopeless bool) {
	switch {
	case r.doomed && p.dead != nil:
		p.dead.send(d, r)
	case hopeless && r.doomed:
		_ = d.NackAfter(p.cfg.BackoffMax)
	default:
		_ = d.NackAfter(p.backoff.wait(r.failures-1, nil))
	}
}

// slowDown tells the throttle of a failure.
func (p *handlerPool) slowDown(batch []Delivery, fresh, hopeless bool, now time.Time) {
	if hopeless {
		if p.sub.throttle.undecided(batch, now) {
			p.sub.wake()
		}
		return
	}
	if stepped, wait := p.sub.throttle.failed(batch, fresh, now); stepped {
		p.sub.log(slog.LevelWarn, "lets one message through, because handlers fail", "after", wait)
		p.sub.wake()
	}
}

func (p *handlerPool) report(d Delivery, err error) {
	if p.cfg.OnError == nil {
		return
	}
	if crash := apart("OnError", func() { p.cfg.OnError(d, err) }); crash != nil {
		p.logError(slog.LevelError, "recovered a panic of OnError", d, crash)
	}
}

func (p *handlerPool) logFailure(batch []Delivery, err error) {
	p.logError(slog.LevelWarn, "has a handler that failed", batch[0], err, "deliveries", len(batch))
}

func (p *handlerPool) logError(level slog.Level, what string, d Delivery, err error, args ...any) {
	if _, ok := err.(*PanicError); ok {
		level = slog.LevelError
	}
	p.sub.log(level, what, append(crashLog(d.Key, err), args...)...)
}

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

// handlerContext ends as a lease does, and has the values of the ctx that Handle got. It has no timer and no goroutine of
// its own, and needs none for contexts made from it either: values comes from context.WithoutCancel, which hides what
// package context looks for in a parent, so that it finds the lease's.
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
