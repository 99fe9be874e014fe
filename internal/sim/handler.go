package sim

import (
	"context"
	"errors"
	"time"

	"github.com/sequin-go/sequin"
)

// errFailed is what a handler that fails returns.
var errFailed = errors.New("the handler fails")

// handleAll lets Subscriber.Handle, or HandleBatch, call the worker's handler until the Subscriber stops.
func (w *worker) handleAll() {
	onError := func(d sequin.Delivery, err error) { w.of(d, func(h *handed) { h.refuse(err) }) }
	var err error
	if w.plan.Batch > 0 {
		cfg := sequin.BatchHandlerConfig{Size: w.plan.Batch, Workers: w.plan.Readers, BackoffMax: 5 * time.Second, OnError: onError}
		err = w.sub.HandleBatch(w.ctx, cfg, func(_ context.Context, batch []sequin.Delivery) error { return w.result(batch) })
	} else {
		cfg := sequin.HandlerConfig{Workers: w.plan.Readers, BackoffMax: 5 * time.Second, OnError: onError}
		err = w.sub.Handle(w.ctx, cfg, func(_ context.Context, d sequin.Delivery) error { return w.result([]sequin.Delivery{d}) })
	}
	// A handler that overruns its lease pays no heed to its context.
	if err != nil && !errors.Is(err, sequin.ErrHandlersRunning) {
		w.l.violate("trouble that passes ends no Handle", "%s: %v", w.name, err)
	}
}

// result does with deliveries what the worker's habits say, and enters what Handle is to make of those that are left to
// it: all are acked, or, when it failed for one, nacked.
func (w *worker) result(batch []sequin.Delivery) error {
	var all, left []*handed
	var draws []int
	for _, d := range batch { // all are in its hands before it does anything
		h, drawn := w.take(d)
		all, draws = append(all, h), append(draws, drawn)
	}
	kind, panics := sequin.Ack, false
	for i, h := range all {
		o := w.deal(h, draws[i])
		if !o.settled {
			left = append(left, h)
		}
		if o.fails || o.panics {
			kind = sequin.Nack
		}
		panics = panics || o.panics
	}
	for _, h := range left {
		w.enter(h, kind)
	}
	switch {
	case panics:
		panic(errFailed)
	case kind == sequin.Nack:
		return errFailed
	}
	return nil
}

// outcome is what a handler makes of a delivery: success, unless it says otherwise.
type outcome struct {
	fails, panics bool
	settled       bool // by itself, or it is too late to
}

// deal does with a delivery what the worker's habits say; once all is calm, everybody works well.
func (w *worker) deal(h *handed, drawn int) outcome {
	select {
	case <-w.calm:
		return outcome{}
	default:
	}
	below := w.choose(drawn)
	switch habits := w.plan.Habits; {
	case below(habits.AckSync):
		w.ack(h, true)
		return outcome{settled: true}
	case below(habits.Nack):
		return outcome{fails: true}
	case below(habits.NackAfter):
		w.settle(h, sequin.Nack, false, func() error { return h.NackAfter(time.Duration(drawn) % (5 * time.Second)) })
		return outcome{settled: true}
	case below(habits.Forget):
		return outcome{panics: true}
	case below(habits.Overrun):
		time.Sleep(time.Until(h.Deadline) + time.Duration(drawn)%time.Second)
		return outcome{settled: true}
	case below(habits.Twice):
		w.ack(h, false)
		return outcome{fails: true, settled: true} // the ack stands
	}
	return outcome{}
}

// enter notes the settle that Handle makes of what a handler returns.
func (w *worker) enter(h *handed, kind sequin.SettlementKind) {
	now := time.Now()
	w.l.note(func() { h.settles = append(h.settles, settled{kind: kind, at: now, ended: now}) })
}

// refuse takes an ack back that Handle could not make: the lease was over, or the Subscriber closed.
func (h *handed) refuse(err error) {
	if n := len(h.settles); n > 0 && (errors.Is(err, sequin.ErrLeaseExpired) || errors.Is(err, sequin.ErrClosed)) {
		h.settles[n-1].err = err
	}
}
