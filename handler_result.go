package sequin

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/sequin-go/sequin/internal/failurelog"
	"github.com/sequin-go/sequin/internal/lease"
)

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
	p.logError(slog.LevelWarn, "had a handler call that failed", batch[0], err, "deliveries", len(batch))
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
