package sequin

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sequin-go/sequin/internal/failurelog"
	"github.com/sequin-go/sequin/internal/lease"
)

// conclude settles a batch according to what its handler returned. The handler had ctx and began at began, a time of p.clock.
func (p *handlerPool) conclude(ctx context.Context, batch []Delivery, out []Message, err error, began time.Duration) {
	if err == nil && len(out) == 0 {
		p.outlived(p.succeeded(batch, p.report), began)
		return
	}
	p.outlived(overdue(batch, time.Now()), began)
	switch {
	case err == nil:
		p.pass(ctx, batch[0], out)
	case p.interrupted(err):
		p.returnInterrupted(batch, err)
	default:
		// A call that fails during a stop may fail because of the stop, also with an error that does not wrap that of a ctx:
		// drivers have errors of their own.
		p.failed(batch, err, !p.stopping() || IsPermanent(err), directly)
	}
}

// succeeded acks the deliveries that the handler has not settled itself. It calls report for an ack that was refused, and
// returns the deliveries whose ack came too late.
func (p *handlerPool) succeeded(batch []Delivery, report func(Delivery, error)) (late []Delivery) {
	snoozed := 0
	for _, d := range batch {
		if d.state.isSnoozed() {
			snoozed++
			p.noteSnooze(d)
		}
	}
	switch {
	case snoozed == len(batch):
		p.inconclusive(batch, time.Now())
	case p.sub.breaker.Succeeded():
		p.noteFullSpeed()
		p.sub.wake()
	}
	for _, d := range batch {
		if !d.state.isSnoozed() {
			p.clearFailures(d)
		}
		if p.ack(d, report) {
			late = append(late, d)
		}
	}
	return late
}

// clearFailures removes the failures of a message that has been handled. If its ack does not arrive the message is
// redelivered. After many redeliveries it could be taken for a poison message, so we record that these deliveries crashed
// nothing.
func (p *handlerPool) clearFailures(d Delivery) {
	if p.dead == nil || d.Attempt < p.dead.cfg.MaxAttempts || lease.Past(time.Now(), d.state.Lease().Deadline) {
		p.sub.failures.Forget(failureID(d))
		return
	}
	p.sub.failures.Update(failureID(d), func(r *failurelog.Record) {
		*r = failurelog.Record{Survived: r.Survived + r.Failures + 1}
	})
}

// noteSnooze records a delivery that its handler has snoozed by NackAfter, or given back by Release. A snooze is not a
// failure, and does not clear earlier ones. It is recorded as a delivery that crashed nothing, because a message may be snoozed
// more often than deliveredTooOften allows. A server that counts attempts leaves out a snooze that was in time.
func (p *handlerPool) noteSnooze(d Delivery) {
	if p.dead == nil || d.Attempt < p.dead.cfg.MaxAttempts || d.state.counts() && d.state.settled.Load() {
		return
	}
	p.sub.failures.Update(failureID(d), func(r *failurelog.Record) { r.Survived++ })
}

// stopping reports whether the Subscriber stops, or will stop because the ctx of Handle has ended.
func (p *handlerPool) stopping() bool { return p.ctx.Err() != nil || p.sub.soft.Err() != nil }

// interrupted reports whether a handler returned err because of a stop. Once the stop has ended the contexts of the handlers,
// any error counts as such. Before that only the error of a context does, because the handler may use a context of the
// program that ends with a stop. A panic is always a failure.
func (p *handlerPool) interrupted(err error) bool {
	if _, panicked := err.(*PanicError); panicked || !p.stopping() {
		return false
	}
	return p.sub.hard.Err() != nil || isAny(err, context.Canceled, context.DeadlineExceeded, context.Cause(p.ctx), context.Cause(p.sub.soft))
}

// returnInterrupted returns the deliveries of an interrupted handler to the server, so that another process can receive them
// at once. If their leases are over, or the stop no longer waits, they are redelivered when their leases end.
func (p *handlerPool) returnInterrupted(batch []Delivery, err error) {
	p.logError(slog.LevelInfo, "stops, and interrupted a handler", batch[0], err, "deliveries", len(batch))
	for _, d := range batch {
		p.sub.settler.returnAtStop(d, p.cfg.BackoffMax)
	}
	p.inconclusive(batch, time.Now())
}

// failed nacks the deliveries that the handler has not settled itself, or sends them to the dead letters. counts reports
// whether the messages themselves may be at fault. Deliveries that the handler has snoozed did not fail, but the error is
// reported. tell runs what calls OnError and the log: directly, or aside.Go on a lane of a Publisher.
func (p *handlerPool) failed(batch []Delivery, err error, counts bool, tell func(func())) {
	now, text := time.Now(), failurelog.Text(err)
	single, final := len(batch) == 1, counts && IsPermanent(err)
	countsForBreaker, reported, snoozed := false, false, 0
	for _, d := range batch {
		settled := d.state.settled.Load()
		if d.state.isSnoozed() {
			snoozed++
			p.noteSnooze(d)
			continue
		}
		if settled && !single {
			continue // a delivery of a batch that the handler has settled did not fail
		}
		r := p.sub.failures.Update(failureID(d), func(r *failurelog.Record) {
			r.Note(now, text, counts)
			if counts {
				r.Tries = max(r.Tries, d.attempts()-r.Survived) // those of other processes
			} else if lease.Past(now, d.state.Lease().Deadline) {
				r.Survived++ // too late to tell the server that this was no attempt
			}
			r.Isolate = r.Isolate || final
			r.Dead = r.Dead || single && counts && (final || p.dead != nil && r.Tries >= p.dead.cfg.MaxAttempts)
		})
		if !settled {
			p.retry(d, r, counts, final, tell)
		}
		countsForBreaker = countsForBreaker || r.Failures == 1 || p.sub.placesTaken()
		tell(func() { p.report(d, err) })
		reported = true
	}
	first := batch[0]
	if !reported {
		tell(func() { p.report(first, err) })
	}
	if snoozed == len(batch) {
		tell(func() {
			p.logError(slog.LevelInfo, "got an error from a handler that had snoozed its messages", first, err, "deliveries", snoozed)
		})
		p.inconclusive(batch, now)
		return
	}
	n := len(batch)
	tell(func() { p.logError(slog.LevelWarn, "got an error from a handler", first, err, "deliveries", n) })
	if single && final && !p.sub.placesTaken() {
		p.inconclusive(batch, now)
	} else {
		p.callFailed(batch, countsForBreaker, now)
	}
}

// retry nacks a delivery after its message's backoff, or sends it to the dead letters. During a stop the message is returned
// without a backoff: the failure may come from the stop, and another process can handle it at once. A delivery that can no
// longer be nacked is redelivered when its lease ends.
func (p *handlerPool) retry(d Delivery, r failurelog.Record, counts, final bool, tell func(func())) {
	switch {
	case r.Dead && p.dead != nil:
		p.dead.send(d, r, tell)
	case p.stopping():
		p.sub.settler.returnAtStop(d, p.cfg.BackoffMax)
	case r.Dead && final:
		p.sub.settler.retry(d, p.cfg.BackoffMax, counts)
	default:
		p.sub.settler.retry(d, p.delay(r.Failures), counts)
	}
}

// delay returns how long a message that has failed that often is kept back.
func (p *handlerPool) delay(failures int) time.Duration {
	if p.cfg.BackoffMin == NoBackoff {
		return 0
	}
	return p.backoff.wait(failures-1, nil)
}

// callFailed reports a failed call to the breaker. countsForBreaker reports whether one of its messages had never failed
// before, or no more nacks can be delayed. In the latter case messages that fail again and again would otherwise be tried
// without a pause.
func (p *handlerPool) callFailed(batch []Delivery, countsForBreaker bool, now time.Time) {
	if opened, wait := p.sub.breaker.Failed(contains(batch), countsForBreaker, now); opened {
		p.noteSlow(wait)
		p.sub.wake()
	}
}

// noteSlow logs that the breaker has opened, or stays open for another step. Only the former is a change of state.
func (p *handlerPool) noteSlow(wait time.Duration) {
	const what = "tries one message at a time, because handlers fail"
	if now := time.Now(); !p.sub.slowSince.CompareAndSwap(nil, &now) {
		p.sub.log.Add(slog.LevelDebug, "still "+what, "retry_in", wait)
		return
	}
	p.sub.log.Add(slog.LevelWarn, what, "retry_in", wait)
	p.sub.changed(StateInfo{State: StateBreakerOpen})
}

// noteFullSpeed logs that the breaker has closed.
func (p *handlerPool) noteFullSpeed() {
	if since := p.sub.slowSince.Swap(nil); since != nil {
		p.sub.log.Add(slog.LevelInfo, "handles messages at full speed again", "for", time.Since(*since))
		p.sub.changed(StateInfo{State: StateBreakerOpen, Over: true, For: time.Since(*since)})
	}
}

// inconclusive reports to the breaker that the outcome of a batch says nothing about the handler.
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

// ack acks a delivery, unless it is settled. It calls report for an ack that was refused, and returns whether it came too
// late.
func (p *handlerPool) ack(d Delivery, report func(Delivery, error)) (late bool) {
	err := d.Ack()
	if err == nil || errors.Is(err, ErrSettled) {
		return false
	}
	report(d, err)
	return errors.Is(err, ErrLeaseExpired)
}

// report calls OnError and waits for it. The lanes of a Publisher must not call it: see reportAside.
func (p *handlerPool) report(d Delivery, err error) {
	if p.cfg.OnError == nil {
		return
	}
	if panicked := callApart("OnError", func() { p.cfg.OnError(d, err) }); panicked != nil {
		p.logError(slog.LevelError, "recovered a panic of OnError", d, panicked)
	}
}

// reportAside is report on a goroutine of its own. The lanes of the Publishers of a Pipe and of the dead letters report in
// this way. OnError, and a slog.Handler, may send through the same Publisher or flush it, and would then wait for the lane
// that waits for them. At most MaxInFlight such goroutines may wait; then the workers wait too.
func (p *handlerPool) reportAside(d Delivery, err error) { p.aside.Go(func() { p.report(d, err) }) }

// directly calls f. It is the tell of a worker, which may wait for OnError and the log.
func directly(f func()) { f() }

// logError logs an error that concerns a delivery. A panic is logged as an error at any level.
func (p *handlerPool) logError(level slog.Level, what string, d Delivery, err error, args ...any) {
	if _, ok := err.(*PanicError); ok {
		level = slog.LevelError
	}
	p.sub.log.Write(level, what, append(errorAttrs(d.Key, err), args...)...)
}

// overdue returns the deliveries of a batch whose deadlines have passed and that are not settled. It does not reuse the
// memory of batch, and allocates only if it returns deliveries.
func overdue(batch []Delivery, now time.Time) (late []Delivery) {
	for _, d := range batch {
		if !d.state.settled.Load() && lease.Past(now, d.state.Lease().Deadline) {
			late = append(late, d)
		}
	}
	return late
}

// outlived counts and logs the deliveries whose handler returned after their deadlines. The handler began at began, a time
// of p.clock.
func (p *handlerPool) outlived(late []Delivery, began time.Duration) {
	if len(late) == 0 {
		return
	}
	p.sub.counts.outlived.Add(uint64(len(late)))
	took := p.clock() - began
	if since, ok := p.late.report(time.Now(), len(late)); ok {
		p.sub.log.Add(slog.LevelWarn, "had a handler that outlived its lease, so that its message is redelivered: see ConsumerOptions.AckWait",
			"key", clip(late[0].Key), "took", took, "deliveries", since, "ack_wait", p.sub.terms.Load().AckWait)
	}
}

// clock returns the time since the pool was made. It costs half of time.Now, because it does not read the wall clock.
func (p *handlerPool) clock() time.Duration { return time.Since(p.made) }

// overrunPause is the least time between two warnings of handlers that outlive their leases. A lease may be as short as
// 100 ms, and each of many workers may be late every time.
const overrunPause = time.Second

// overruns decides which of the handlers that outlive their leases are logged: the first, and then at most one a second.
type overruns struct {
	mu       sync.Mutex // guards all below
	next     time.Time  // when the next warning may be logged
	unlogged int        // deliveries since the last warning
}

// report counts n deliveries. It reports whether to log them, and how many were counted since the last warning, these
// included.
func (o *overruns) report(now time.Time, n int) (since int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unlogged += n
	if now.Before(o.next) {
		return 0, false
	}
	since, o.unlogged, o.next = o.unlogged, 0, now.Add(overrunPause)
	return since, true
}
