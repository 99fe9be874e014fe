package sequin

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/wire"
)

// settling is an ack or a nack on its way. Acks and nacks travel by the same batcher as messages. It is copied from queue
// to batch, and so holds no more of its delivery than it needs.
type settling struct {
	ackID       string
	state       *deliveryState
	delivery    *Delivery // for OnAckError; nil without one
	told        *waiting  // AckSync's; nil for the others
	undelivered bool      // no program has seen the message
	unsure      bool      // an attempt that may have been carried out is being repeated
}

// waiting is an AckSync. Two may decide about it at once: the outcome that comes, and the ctx that ends. Whoever is first
// says who is told: AckSync, or OnAckError, as of any other ack.
type waiting struct {
	decided atomic.Bool
	outcome chan error
}

func (w *waiting) decide() bool { return w != nil && w.decided.CompareAndSwap(false, true) }

func (s *settler) settling(d Delivery) settling {
	x := settling{ackID: d.AckID, state: d.state}
	if s.sub.cfg.OnAckError != nil {
		kept := d // a copy for this case alone: the address of d would put every delivery on the heap
		x.delivery = &kept
	}
	return x
}

// settleCost is what an ack id takes in a request; 1,000 of them are far from any limit of bytes.
const settleCost = len(`"00000000-0000-0000-0000-000000000000",`)

// entry is the settle for its batcher. Its order is no matter, so that it has no id.
func (s settling) entry() *batch.Entry[settling] {
	return &batch.Entry[settling]{Item: s, Size: settleCost}
}

func (s settling) before(o settling) int {
	return s.state.lease.deadline.Compare(o.state.lease.deadline)
}

// The nacks that a program made, and those of what it never saw, travel in different requests.
const (
	laneProgram = iota
	laneUndelivered
)

// settler is the Acknowledger of a Subscriber's deliveries, and sends what they settle.
type settler struct {
	sub         *Subscriber
	acks, nacks *batch.Engine[settling, struct{}]
	repeatAcks  bool // the stream is known to append: a repeated ack can hit nothing newer
	failures    [Nack + 1]atomic.Int32
}

func newSettler(sub *Subscriber) *settler {
	s := &settler{sub: sub}
	limits := func() batch.Limits { return batch.Limits{Count: MaxBatch, Bytes: MaxRequestBytes} }
	config := func(kind SettlementKind, lanes int) batch.Config[settling, struct{}] {
		// Two slots, so that a request which hangs, or is tried again and again, does not hold up its whole lane.
		return batch.Config[settling, struct{}]{Lanes: lanes, Slots: 2, Limits: limits, Compare: settling.before,
			Run: func(ctx context.Context, b *batch.Batch[settling, struct{}]) batch.Result[settling, struct{}] {
				return s.run(ctx, kind, b)
			},
			Unordered: true,
			Done:      func(items []batch.Entry[settling], err error) { s.done(kind, items, err) }}
	}
	s.acks = batch.New(config(Ack, 1))
	s.nacks = batch.New(config(Nack, 2))
	return s
}

// Settle implements Acknowledger. Past the deadline nothing is sent: on the 2024 server an ack id survives redelivery,
// and a late ack would settle somebody else's work, even a newer version of the message.
func (s *settler) Settle(ctx context.Context, d Delivery, how Settlement) error {
	switch {
	case d.state == nil || d.state.lease.cut != s.sub.hard:
		return ErrNotDelivered
	case how.Kind != Ack && how.Kind != Nack:
		return fmt.Errorf("%w: Settlement.Kind is %d, must be Ack or Nack", ErrInvalidArgument, how.Kind)
	case d.state.settled.Load():
		return ErrSettled
	}
	now, l := time.Now(), d.state.lease
	if past(now, l.deadline) {
		return s.refuse(d, now)
	}
	// Two settles at once both come here; one of them wins.
	if !d.state.settled.CompareAndSwap(false, true) {
		return ErrSettled
	}
	s.sub.tempo.note(now.Sub(l.began))
	x := s.settling(d)
	if how.Kind == Nack {
		return s.nack(x, now, how.Delay)
	}
	if how.Sync {
		x.told = &waiting{outcome: make(chan error, 1)}
	}
	if err := s.acks.Admit(context.Background(), x.entry(), 0, how.Sync || x.urgent(now), true); err != nil || !how.Sync {
		return err
	}
	select {
	case err := <-x.told.outcome:
		return err
	case <-ctx.Done():
		if x.told.decide() {
			return ended(ctx)
		}
		return <-x.told.outcome
	}
}

// refuse says that the lease is over, and lets intake learn from it.
func (s *settler) refuse(d Delivery, now time.Time) error {
	l := d.state.lease
	s.sub.counts.refusedLate.Add(1)
	s.sub.lateLease.Store(l)
	s.sub.wake()
	return fmt.Errorf("%w: key %q, %v ago", ErrLeaseExpired, clip(d.Key), now.Sub(l.deadline))
}

// nack sends a nack now, or gives it to intake to hold back.
func (s *settler) nack(x settling, now time.Time, delay time.Duration) error {
	if delay > 0 && s.sub.hold(x, now.Add(delay)) {
		return nil
	}
	return s.nacks.Admit(context.Background(), x.entry(), laneProgram, x.urgent(time.Now()), true)
}

// urgent reports whether waiting for company, or for the end of a backoff, could take the settle past its deadline.
func (s settling) urgent(now time.Time) bool {
	l := s.state.lease
	return l.deadline.Sub(now) <= max(batch.MaxHold, l.margin/2)
}

// giveBack nacks what no program has seen.
func (s *settler) returnDelivery(d Delivery) {
	d.state.settled.Store(true)
	x := settling{ackID: d.AckID, state: d.state, undelivered: true}
	// It is refused only where a stop was cut off before a handler gave back what it had taken: that counts as unsettled.
	_ = s.nacks.Admit(context.Background(), x.entry(), laneUndelivered, false, true)
}

// run makes one attempt at a batch of acks or nacks.
func (s *settler) run(ctx context.Context, kind SettlementKind, b *batch.Batch[settling, struct{}]) batch.Result[settling, struct{}] {
	if in, late := splitExpired(b.Items, time.Now()); len(late) > 0 {
		v := batch.Result[settling, struct{}]{Failed: late, Err: ErrLeaseExpired}
		if len(in) > 0 {
			v.Again = []*batch.Batch[settling, struct{}]{{Items: in}}
		}
		return v
	}
	margin := b.Items[0].Item.state.lease.margin // the shortest: ack_wait may have changed meanwhile
	body := bodies.Get(len(b.Items)*settleCost + 64)
	body.JSON = wire.AppendSettleHead(body.JSON)
	for i := range b.Items {
		body.JSON = wire.AppendAckID(body.JSON, b.Items[i].Item.ackID)
		margin = min(margin, b.Items[i].Item.state.lease.margin)
	}
	body.JSON = wire.AppendSettleTail(body.JSON, b.Items[0].Item.undelivered)
	verb := "ack"
	if kind == Nack {
		verb = "nack"
	}
	err := s.sub.client.settle(ctx, s.sub.stream, s.sub.consumer, verb, body, margin, once)
	if err == nil {
		bodies.Put(body)
		s.failures[kind].Store(0)
		return batch.Result[settling, struct{}]{Done: b.Items}
	}
	s.sub.counts.note(err)
	f := classify(err)
	repeats := kind == Ack && s.repeatAcks && f.mayHaveActed
	if f.surelyNotActed() || repeats {
		for i := range b.Items {
			b.Items[i].Item.unsure = b.Items[i].Item.unsure || repeats
		}
		wait := s.sub.client.cfg.Retry.wait(int(s.failures[kind].Add(1)-1), err)
		// A wait longer than half the margin would let more leases end than the server's trouble does. It goes again as
		// it is, without company: what is wrong may be wrong with one of its ids, and the lane has another slot.
		return batch.Result[settling, struct{}]{Again: []*batch.Batch[settling, struct{}]{b}, Wait: min(wait, margin/2)}
	}
	if f.mayHaveActed {
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return batch.Result[settling, struct{}]{Failed: b.Items, Err: err}
}

// splitExpired parts what may still be settled from what may not. Both keep their order.
func splitExpired(items []batch.Entry[settling], now time.Time) (in, late []batch.Entry[settling]) {
	var l *lease // of the last one: they come in runs
	over := false
	expired := func(e *batch.Entry[settling]) bool {
		if e.Item.state.lease != l {
			l = e.Item.state.lease
			over = past(now, l.deadline)
		}
		return over
	}
	first := 0
	for first < len(items) && !expired(&items[first]) {
		first++
	}
	if first == len(items) {
		return items, nil
	}
	in = slices.Clone(items[:first])
	for i := first; i < len(items); i++ {
		if e := &items[i]; expired(e) {
			late = append(late, *e)
		} else {
			in = append(in, *e)
		}
	}
	return in, late
}

// done tells everybody concerned what became of settles. What ended without a further word of the server after an attempt
// that may have been carried out is of unknown outcome.
func (s *settler) done(kind SettlementKind, items []batch.Entry[settling], err error) {
	if unsure := func(e batch.Entry[settling]) bool { return e.Item.unsure }; err != nil && slices.ContainsFunc(items, unsure) {
		all := slices.Clone(items)
		s.tell(kind, slices.DeleteFunc(slices.Clone(all), unsure), err)
		s.tell(kind, slices.DeleteFunc(all, func(e batch.Entry[settling]) bool { return !unsure(e) }), fmt.Errorf("%w: %w", ErrOutcomeUnknown, err))
		return
	}
	s.tell(kind, items, err)
}

func (s *settler) tell(kind SettlementKind, items []batch.Entry[settling], err error) {
	if len(items) == 0 {
		return
	}
	s.sub.settled(kind, items, err)
	for i := range items {
		x := &items[i].Item
		switch {
		case x.told.decide():
			x.told.outcome <- err
		case err != nil && x.delivery != nil:
			s.sub.ackFailed(*x.delivery, err)
		}
	}
	if err != nil {
		s.sub.log(slog.LevelWarn, "could not settle", "deliveries", len(items), "error", err)
	}
}
