package sim

import (
	"context"
	"errors"
	"time"

	"github.com/sequin-go/sequin"
)

// errFailed is what a handler that fails returns.
var errFailed = errors.New("the handler fails")

// handleAll lets Subscriber.Handle call the worker's handler until the Subscriber stops.
func (w *worker) handleAll() {
	cfg := sequin.HandlerConfig{
		Workers: w.plan.Readers, BackoffMax: 5 * time.Second,
		OnError: func(d sequin.Delivery, err error) { w.of(d, func(h *handed) { h.refuse(err) }) },
	}
	err := w.sub.Handle(w.ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
		h, drawn := w.take(d)
		return w.result(h, drawn)
	})
	// A handler that overruns its lease pays no heed to its context.
	if err != nil && !errors.Is(err, sequin.ErrHandlersRunning) {
		w.l.violate("trouble that passes ends no Handle", "%s: %v", w.name, err)
	}
}

// result does with a delivery what the worker's habits say, and enters what Handle is to make of it.
func (w *worker) result(h *handed, drawn int) error {
	select {
	case <-w.calm:
		w.enter(h, sequin.Ack)
		return nil
	default:
	}
	below := w.choose(drawn)
	switch habits := w.plan.Habits; {
	case below(habits.AckSync):
		w.ack(h, true)
		return nil
	case below(habits.Nack):
		w.enter(h, sequin.Nack)
		return errFailed
	case below(habits.NackAfter):
		w.settle(h, sequin.Nack, false, func() error { return h.NackAfter(time.Duration(drawn) % (5 * time.Second)) })
		return nil
	case below(habits.Forget):
		w.enter(h, sequin.Nack)
		panic(errFailed)
	case below(habits.Overrun):
		time.Sleep(time.Until(h.Deadline) + time.Duration(drawn)%time.Second)
		return nil // too late to be acked
	case below(habits.Twice):
		w.ack(h, false)
		return errFailed // the ack stands
	}
	w.enter(h, sequin.Ack)
	return nil
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
