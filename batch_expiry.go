package sequin

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/lease"
)

// admitFor accepts a message that is worth sending only while a lease lasts: that of the delivery which it comes from.
// After that the message is made again by whoever gets the delivery next, and this copy is dropped. Its fate is told to
// to, ErrLeaseExpired when it was dropped.
func (p *Publisher) admitFor(ctx context.Context, l *lease.Lease, m Message, to completer, wait bool) error {
	var e batch.Entry[outgoing]
	if err := p.prepare(ctx, m, &e); err != nil {
		return err
	}
	e.Item.lease, e.Item.to = l, to
	return p.engine.Admit(ctx, &e, p.lane(e.ID), false, wait)
}

// dropLeased fails what is buffered for the time of a lease: while the stream refuses everything nothing leaves, and whoever
// holds those leases would learn nothing until long after their end.
func (p *Publisher) dropLeased(err error) {
	p.engine.Drop(func(o *outgoing) bool { return o.lease != nil }, err)
}

// lapsed reports whether nobody needs the message any more.
func (o *outgoing) lapsed(now time.Time) bool {
	return o.lease != nil && (lease.Past(now, o.lease.Deadline) || o.lease.Parent.Err() != nil)
}

// dropLapsed takes what has lapsed out of a batch that is about to be sent. What remains makes other bytes, with an
// Idempotency-Key of their own. ok is false when there was nothing to drop.
func (p *Publisher) dropLapsed(b *batch.Batch[outgoing, sending], now time.Time) (v batch.Result[outgoing, sending], ok bool) {
	late := func(e batch.Entry[outgoing]) bool { return e.Item.lapsed(now) }
	if !slices.ContainsFunc(b.Items, late) {
		return v, false
	}
	rest := &batch.Batch[outgoing, sending]{Work: b.Work}
	rest.Work.body = nil
	for _, e := range b.Items {
		if late(e) {
			v.Failed = append(v.Failed, e)
		} else {
			rest.Items = append(rest.Items, e)
		}
	}
	v.Err = ErrLeaseExpired
	if len(rest.Items) > 0 {
		v.Again = []*batch.Batch[outgoing, sending]{rest}
	}
	p.log(slog.LevelInfo, "drops what was not sent in time for its source", "messages", len(v.Failed))
	return v, true
}
