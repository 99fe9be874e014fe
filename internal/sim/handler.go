package sim

import (
	"context"
	"errors"
	"time"

	"github.com/sequin-go/sequin"
)

// errFailed is the error of a handler that fails.
var errFailed = errors.New("the handler fails")

// handling lets a handler work up to the deadline of its delivery, and no longer: the checks know no extended leases.
const handling = time.Nanosecond

// handleAll runs Subscriber.Handle or HandleBatch until the Subscriber stops.
func (w *worker) handleAll() {
	onError := func(d sequin.Delivery, err error) {
		w.rec.updateReceived(w.name, numbered(d), func(r *received) { r.lastSettleFailed(err) })
	}
	var err error
	if w.plan.Batch > 0 {
		cfg := sequin.BatchHandlerConfig{Size: w.plan.Batch, Workers: w.plan.Readers, BackoffMax: 5 * time.Second, MaxHandling: handling, OnError: onError}
		err = w.sub.HandleBatch(w.ctx, cfg, func(_ context.Context, batch []sequin.Delivery) error { return w.handle(batch) })
	} else {
		cfg := sequin.HandlerConfig{Workers: w.plan.Readers, BackoffMax: 5 * time.Second, MaxHandling: handling, OnError: onError}
		err = w.sub.Handle(w.ctx, cfg, func(_ context.Context, d sequin.Delivery) error { return w.handle([]sequin.Delivery{d}) })
	}
	w.checkHandleError(err)
}

// checkHandleError allows the errors that say why the Subscriber has ended, that a handler which overruns its lease ignores
// its ctx, and that a stop left something.
func (w *worker) checkHandleError(err error) {
	var left *sequin.DrainError
	drained := !errors.As(err, &left)
	switch ended := w.sub.Err(); {
	case err == nil, !drained, errors.Is(err, sequin.ErrHandlersRunning):
	case ended != nil && errors.Is(err, ended):
	default:
		w.rec.violate("temporary failures do not end Handle", "%s: %v", w.name, err)
	}
	if closed := w.sub.Close(w.ctx); (closed == nil) != drained { // it has stopped, so that Close does nothing
		w.rec.violate("Handle returns what its stop left", "%s: Handle returned %v, and Close %v", w.name, err, closed)
	}
}

// handle is the worker's handler. It settles deliveries as the habits say, and records how Handle must settle the remaining
// ones: it acks all, or nacks all if the handler fails for one of them.
func (w *worker) handle(batch []sequin.Delivery) error {
	var all, left []*received
	var draws []int
	for _, d := range batch { // all are received before any is settled
		r, drawn := w.receive(d)
		all, draws = append(all, r), append(draws, drawn)
	}
	kind, panics := sequin.Ack, false
	for i, r := range all {
		o := w.handleByHabit(r, draws[i])
		if !o.settled {
			left = append(left, r)
		}
		if o.fails || o.panics {
			kind = sequin.Nack
		}
		panics = panics || o.panics
	}
	for _, r := range left {
		w.noteSettle(r, kind)
	}
	switch {
	case panics:
		panic(errFailed)
	case kind == sequin.Nack:
		return errFailed
	}
	return nil
}

// handled is what a handler did with a delivery. The zero value is success.
type handled struct {
	fails, panics bool
	settled       bool // the handler has settled it, or its deadline has passed
}

// handleByHabit handles a delivery as the worker's habits say. Once the faults are over it always succeeds.
func (w *worker) handleByHabit(r *received, drawn int) handled {
	select {
	case <-w.world.faultsOver:
		return handled{}
	default:
	}
	below := w.choose(drawn)
	switch habits := w.plan.Habits; {
	case below(habits.AckSync):
		w.ack(r, true)
		return handled{settled: true}
	case below(habits.Nack):
		return handled{fails: true}
	case below(habits.NackAfter):
		w.settle(r, sequin.Nack, false, func() error { return r.NackAfter(time.Duration(drawn) % (5 * time.Second)) })
		return handled{settled: true}
	case below(habits.Forget):
		return handled{panics: true}
	case below(habits.Overrun):
		time.Sleep(time.Until(r.Deadline) + time.Duration(drawn)%time.Second)
		return handled{settled: !w.world.s.has(extend)} // or its lease has been extended meanwhile
	case below(habits.Twice):
		w.ack(r, false)
		return handled{fails: true, settled: true} // the ack stands
	}
	return handled{}
}

// noteSettle records the settle that Handle makes after the handler has returned.
func (w *worker) noteSettle(r *received, kind sequin.SettlementKind) {
	now := time.Now()
	w.rec.note(func() { r.settles = append(r.settles, settle{kind: kind, at: now, ended: now}) })
}

// lastSettleFailed records that Handle could not make the last settle, because the lease had ended or the Subscriber was
// closed.
func (r *received) lastSettleFailed(err error) {
	if n := len(r.settles); n > 0 && (errors.Is(err, sequin.ErrLeaseExpired) || errors.Is(err, sequin.ErrClosed)) {
		r.settles[n-1].err = err
	}
}
