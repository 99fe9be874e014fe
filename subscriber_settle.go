package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/extend"
	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/wire"
)

// The lanes of the engines. Nacks that the server counts and those that it does not count are sent in different requests. Acks
// have one lane.
const (
	laneAck       = 0
	laneCounted   = 0
	laneUncounted = 1
)

// settler is the Acknowledger of a Subscriber's deliveries. It sends their acks and nacks, and extends their leases.
type settler struct {
	sub        *Subscriber
	acks       *batch.Engine[settling, struct{}]
	nacks      func() *batch.Engine[settling, struct{}] // made when it is needed, because many programs never nack or extend
	extender   func() *extend.Extender
	slots      [Nack + 1]*flow.Slots
	distance   flow.Distance // of requests with acks
	repeatAcks bool          // the stream is known to append: a repeated ack cannot settle a newer message
	failures   [Nack + 1]atomic.Int32
}

func newSettler(sub *Subscriber, repeatAcks bool) *settler {
	s := &settler{sub: sub, repeatAcks: repeatAcks}
	s.slots[Ack], s.slots[Nack] = flow.NewSlots(settleSlots, maxSettles), flow.NewSlots(settleSlots, maxSettles)
	limits := func(int) batch.Limits { return batch.Limits{Count: MaxBatch, Bytes: MaxRequestBytes} }
	config := func(kind SettlementKind, lanes int) batch.Config[settling, struct{}] {
		return batch.Config[settling, struct{}]{Lanes: lanes, Slots: settleSlots, FullSlots: s.slots[kind].Size, Limits: limits, Compare: settling.compare,
			Run:       func(ctx context.Context, b *settleBatch) settleResult { return s.run(ctx, kind, b) },
			Unordered: true,
			Done:      func(items []settleEntry, err error) { s.settled(kind, items, err) }}
	}
	s.acks = batch.New(config(Ack, 1))
	s.nacks = sync.OnceValue(func() *batch.Engine[settling, struct{}] { return batch.New(config(Nack, 2)) })
	s.extender = sync.OnceValue(func() *extend.Extender { return extend.New(sub.extension()) })
	return s
}

// Settle implements Acknowledger. It sends nothing after the deadline. On the 2024 server a redelivery has the same ack id,
// so that a late ack would settle a message that another program is handling, or even a newer version of it.
func (s *settler) Settle(ctx context.Context, d Delivery, how Settlement) error {
	if how.Kind != Nack || d.state == nil {
		return s.settle(ctx, &d, how, false, true)
	}
	snoozed := d.state.isSnoozed() && s.sub.mode.handlers()
	return s.settle(ctx, &d, how, d.state.delaysNacks(), !snoozed)
}

// retry nacks a delivery whose handler has failed. counted reports whether that was an attempt at its message.
func (s *settler) retry(d Delivery, after time.Duration, counted bool) {
	_ = s.settle(context.Background(), &d, Settlement{Kind: Nack, Delay: after}, d.state.delaysNacks(), counted)
}

// returnAtStop nacks a delivery during a stop, after the stop has cancelled the waiting receives. After an earlier nack the
// server could deliver the message to a receive that the stop cancels. If there is no stop the nack is sent after the time.
func (s *settler) returnAtStop(d Delivery, otherwise time.Duration) {
	_ = s.settle(context.Background(), &d, Settlement{Kind: Nack, Delay: otherwise}, false, false)
}

// settle settles a delivery. atServer reports whether the server delays a nack; otherwise the Subscriber does. counted reports
// whether the server counts the delivery of a nack; one that does not announce attempts does.
func (s *settler) settle(ctx context.Context, d *Delivery, how Settlement, atServer, counted bool) error {
	switch {
	case d.state == nil || d.state.fetched.origin != s.sub.origin:
		return ErrNotDelivered
	case how.Kind < Ack || how.Kind > Release:
		return fmt.Errorf("%w: Settlement.Kind is %d, must be Ack, Nack, Extend or Release", ErrInvalidArgument, how.Kind)
	case d.state.settled.Load():
		return ErrSettled
	}
	if how.Kind == Extend {
		return s.extend(ctx, d, how.Delay)
	}
	now, l := time.Now(), d.state.Lease()
	if lease.Past(now, l.Deadline) {
		return s.refuse(d, now.Sub(l.Deadline))
	}
	if _, first := d.state.settle(); !first {
		return ErrSettled
	}
	s.sub.times.Add(now.Sub(d.state.fetched.lease.Began))
	s.sub.buffer.offerNext(now)
	x := s.newSettling(d)
	switch how.Kind {
	case Nack:
		x.uncounted = !counted && d.state.fetched.extensions.Has(wire.Attempts)
		return s.nack(x, now, how.Delay, atServer)
	case Release:
		x.uncounted = d.state.fetched.extensions.Has(wire.Attempts)
		return s.nack(x, now, s.untilCancelled(), false)
	}
	if how.Sync {
		x.sync = &syncAck{result: make(chan error, 1)}
	}
	// Not ctx: an ack outlives the ctx of AckSync.
	if err := s.acks.Admit(context.Background(), x.entry(), laneAck, how.Sync || x.urgent(now), true); err != nil || !how.Sync {
		return err
	}
	select {
	case err := <-x.sync.result:
		return err
	case <-ctx.Done():
		if x.sync.claim() {
			return contextError(ctx)
		}
		return <-x.sync.result
	}
}

// extend extends the lease of a delivery, and waits for the server's answer.
func (s *settler) extend(ctx context.Context, d *Delivery, wait time.Duration) error {
	if err := checkExtension(wait); err != nil {
		return err
	}
	if !d.state.Extends() {
		return unsupported(wire.Extend)
	}
	err := s.extender().Extend(ctx, d.state.Hold(d.AckID), wait)
	switch {
	case err == nil, errors.Is(err, ErrClosed), errors.Is(err, ErrSettled):
		return err
	case errors.Is(err, ErrLeaseExpired):
		return fmt.Errorf("%w: key %q", ErrLeaseExpired, clip(d.Key))
	case ctx.Err() != nil:
		return contextError(ctx)
	}
	return err
}

// endInTime makes the loop end the context of a delivery when its lease is over.
func (s *settler) endInTime(h *lease.Held) {
	switch {
	case s.sub.ledger.Hold(h):
		s.sub.wake()
	case h.Settled.Load():
		h.EndWork(nil)
	default:
		h.EndWork(ErrLeaseExpired)
	}
}

// newSettling returns the settling of a delivery.
func (s *settler) newSettling(d *Delivery) settling {
	x := settling{ackID: d.AckID, state: d.state}
	if s.sub.cfg.OnAckError != nil {
		kept := *d // a copy in this branch only: with d itself, every delivery would escape to the heap
		x.delivery = &kept
	}
	return x
}

// refuse counts a settle whose lease is over, makes the loop adapt its window, and returns the error.
func (s *settler) refuse(d *Delivery, ago time.Duration) error {
	s.sub.counts.refusedLate.Add(1)
	s.sub.late.Store(d.state.fetched)
	s.sub.wake()
	return fmt.Errorf("%w: key %q, %v ago", ErrLeaseExpired, clip(d.Key), ago)
}

// untilCancelled returns how long to delay the return of a message. During a stop that is for as long as possible, because the
// stop sends delayed nacks when it has cancelled its receives. See returnAtStop.
func (s *settler) untilCancelled() time.Duration {
	if s.sub.soft.Err() == nil {
		return 0
	}
	return MaxNackDelay
}

// nack sends a nack now, or delays it. atServer reports whether the server delays it.
func (s *settler) nack(x settling, now time.Time, delay time.Duration, atServer bool) error {
	switch l := x.state.Lease(); {
	case delay > 0 && atServer:
		x.after = now.Add(min(delay, MaxNackDelay)).Sub(x.state.fetched.lease.Began)
	case delay > 0 && s.sub.ledger.Delay(l, x, now.Add(delay)):
		s.sub.wake()
		return nil
	}
	lane := laneCounted
	if x.uncounted {
		lane = laneUncounted
	}
	return s.nacks().Admit(context.Background(), x.entry(), lane, x.urgent(time.Now()), true)
}

// nackUndelivered nacks a message that the program did not see.
func (s *settler) nackUndelivered(d Delivery) {
	if _, first := d.state.settle(); !first {
		return // CloseNow has returned it
	}
	x := settling{ackID: d.AckID, state: d.state, undelivered: true, uncounted: true}
	// Admit refuses the nack only if a stop was interrupted before a handler returned what it had read. Such a message is
	// counted as unsettled by Close.
	_ = s.nacks().Admit(context.Background(), x.entry(), laneUncounted, false, true)
}

// giveBack nacks a delivery that the program has, unless it is settled.
func (s *settler) giveBack(state *deliveryState) {
	if ackID, first := state.settle(); first {
		x := settling{ackID: ackID, state: state, uncounted: state.fetched.extensions.Has(wire.Attempts)}
		_ = s.nack(x, time.Now(), 0, false) // no ErrClosed: closeSettler comes later
	}
}

// run makes one attempt at a batch of acks or nacks.
func (s *settler) run(ctx context.Context, kind SettlementKind, b *settleBatch) settleResult {
	if valid, expired := splitExpired(b.Items, time.Now()); len(expired) > 0 {
		r := settleResult{Failed: expired, Err: ErrLeaseExpired}
		if len(valid) > 0 {
			r.Again = []*settleBatch{{Items: valid}}
		}
		return r
	}
	now := time.Now()
	together, rest, delay := batch.SplitDelays(b.Items, func(x *settling) time.Duration { return x.remaining(now) })
	if len(rest) > 0 {
		return settleResult{Again: []*settleBatch{{Items: together}, {Items: rest}}}
	}
	margin := b.Items[0].Item.state.Lease().Margin // the shortest of the batch: ack_wait may have changed in between
	body := bodies.Get(len(b.Items)*settleCost + 64)
	body.JSON = wire.AppendSettleHead(body.JSON)
	for i := range b.Items {
		body.JSON = wire.AppendAckID(body.JSON, b.Items[i].Item.ackID)
		margin = min(margin, b.Items[i].Item.state.Lease().Margin)
	}
	body.JSON = wire.AppendSettleTail(body.JSON, b.Items[0].Item.uncounted, delay)
	r := settleRequest(s.sub.origin.path, kind.verb(), body, len(b.Items), neverRetry)
	r.timeout = margin
	r.stream, r.consumer = s.sub.origin.names()
	s.slots[kind].Begin()
	err := s.sub.client.settle(ctx, r)
	took := time.Since(now)
	s.slots[kind].End(took, margin, err == nil, errors.Is(err, context.DeadlineExceeded))
	if err == nil {
		if kind == Ack {
			s.distance.Add(now, took)
		}
		bodies.Put(body)
		s.failures[kind].Store(0)
		return settleResult{Done: b.Items}
	}
	s.sub.counts.noteError(err)
	return s.failed(kind, b, err)
}

// failed decides what happens to a batch whose request failed. A settle that the server surely did not carry out is retried.
// One that it may have carried out is retried only if that cannot settle another delivery: if the server fences its ack ids,
// or if it is an ack on a stream that appends.
func (s *settler) failed(kind SettlementKind, b *settleBatch, err error) settleResult {
	f := classify(err)
	failed, again := b.Items, []settleEntry(nil)
	switch {
	case f.mayHaveActed:
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		appends := kind == Ack && s.repeatAcks
		failed, again = batch.Partition(b.Items, func(e *settleEntry) bool {
			e.Item.unsure = appends || e.Item.state.fetched.extensions.Has(wire.FencedAcks)
			return e.Item.unsure
		})
	case f.surelyNotActed():
		failed, again = nil, b.Items
	}
	r := settleResult{Failed: failed, Err: err}
	if len(again) > 0 {
		// Retry the batch without adding to it: one of its ids may cause the failure, and the second slot serves the rest.
		r.Again = []*settleBatch{{Items: again}}
		r.Wait = min(s.sub.client.cfg.Retry.wait(int(s.failures[kind].Add(1)-1), err), longestSettleWait(again, time.Now()))
	}
	return r
}

// verb returns the API's name of the operation.
func (k SettlementKind) verb() string {
	if k == Nack {
		return "nack"
	}
	return "ack"
}

// settled is the engine's Done. A settle that fails after an ambiguous attempt (unsure) has an unknown outcome.
func (s *settler) settled(kind SettlementKind, items []settleEntry, err error) {
	if err == nil {
		s.report(kind, items, nil)
		return
	}
	known, unsure := batch.Partition(items, func(e *settleEntry) bool { return e.Item.unsure })
	s.report(kind, known, err)
	s.report(kind, unsure, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err))
}

// report counts settles that have ended, frees their room, and reports those that failed to AckSync or OnAckError.
func (s *settler) report(kind SettlementKind, items []settleEntry, err error) {
	if len(items) == 0 {
		return
	}
	s.count(kind, items, err)
	if h := s.sub.client.hooks; h.wantsSettled() {
		h.settle(s.settleInfo(kind, items, err))
	}
	if err != nil {
		s.sub.noteUnsent(items, err)
	}
	extended := false
	s.sub.ledger.Settled(func(yield func(*lease.Lease, *lease.Held) bool) {
		for i := range items {
			l, h := items[i].Item.state.fetched.lease, items[i].Item.state.held.Load()
			if h != nil {
				l, extended = h.Lease(), true
			}
			if !yield(l, h) {
				return
			}
		}
	}, err == nil)
	if extended {
		endWork(items)
	}
	s.sub.wake()
	failed := 0
	for i := range items {
		x := &items[i].Item
		switch {
		case x.sync.claim():
			x.sync.result <- err
		case err == nil || x.undelivered:
		default:
			failed++
			if x.delivery != nil {
				delivery := *x.delivery
				s.sub.ackErrors.Add(func() { s.sub.ackFailed(delivery, err) }, 0)
			}
		}
	}
	if failed > 0 {
		s.sub.failedSettles.add(failed, err)
	}
	if err != nil {
		s.sub.log.Add(slog.LevelWarn, "could not "+kind.verb(), "deliveries", len(items), "error", err)
	}
}

// settleInfo describes settles that have ended.
func (s *settler) settleInfo(kind SettlementKind, items []settleEntry, err error) SettleInfo {
	now, i := time.Now(), SettleInfo{Kind: kind, Messages: len(items), Err: err}
	i.Stream, i.Consumer = s.sub.origin.names()
	for n := range items {
		age := now.Sub(items[n].Item.state.fetched.lease.Began)
		i.Oldest, i.Total = max(i.Oldest, age), i.Total+age
	}
	return i
}

// count counts settles that have ended, without those of messages that the program did not see.
func (s *settler) count(kind SettlementKind, items []settleEntry, err error) {
	c, n := &s.sub.counts, uint64(len(items))
	for i := 0; kind == Nack && i < len(items); i++ {
		if items[i].Item.undelivered {
			n--
		}
	}
	switch {
	case err == nil && kind == Ack:
		c.acked.Add(n)
	case err == nil:
		c.nacked.Add(n)
	case errors.Is(err, ErrOutcomeUnknown):
		c.unknown.Add(n)
	case errors.Is(err, ErrLeaseExpired):
		c.refusedLate.Add(n)
	}
}

func (s *Subscriber) ackFailed(d Delivery, err error) {
	if panicked := callApart("OnAckError", func() { s.cfg.OnAckError(d, err) }); panicked != nil {
		s.log.Add(slog.LevelError, "recovered a panic of OnAckError", errorAttrs(d.Key, panicked)...)
	}
}

// noteUnsent counts the settles that failed during a stop, so that Close reports them. A Close that returned nil although an
// ack of the program has failed would look like a clean end.
func (s *Subscriber) noteUnsent(items []settleEntry, err error) {
	if s.ledger.Stopping() {
		s.ledger.NoteUnsent(len(items), errors.Is(err, ErrOutcomeUnknown), err)
	}
}
