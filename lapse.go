package sequin

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// admitFor accepts a message that is worth sending only while a lease lasts: that of the delivery which it comes from.
// After that the message is made again by whoever gets the delivery next, and this copy is dropped. Its fate is told to
// to, ErrLeaseExpired when it was dropped.
func (p *Publisher) admitFor(ctx context.Context, l *lease, m Message, to completer, wait bool) error {
	var e entry[outgoing]
	if err := p.prepare(ctx, m, &e); err != nil {
		return err
	}
	e.item.lease, e.item.to = l, to
	return p.batcher.admit(ctx, &e, p.lane(e.id), false, wait)
}

// dropLeased fails what is buffered for the time of a lease: while the stream refuses everything nothing leaves, and whoever
// holds those leases would learn nothing until long after their end.
func (p *Publisher) dropLeased(err error) {
	p.batcher.drop(func(o *outgoing) bool { return o.lease != nil }, err)
}

// lapsed reports whether nobody needs the message any more.
func (o *outgoing) lapsed(now time.Time) bool {
	return o.lease != nil && (past(now, o.lease.deadline) || o.lease.cut.Err() != nil)
}

// dropLapsed takes what has lapsed out of a batch that is about to be sent. What remains makes other bytes, with an
// Idempotency-Key of their own. ok is false when there was nothing to drop.
func (p *Publisher) dropLapsed(b *batch[outgoing, sending], now time.Time) (v verdict[outgoing, sending], ok bool) {
	late := func(e entry[outgoing]) bool { return e.item.lapsed(now) }
	if !slices.ContainsFunc(b.items, late) {
		return v, false
	}
	rest := &batch[outgoing, sending]{work: b.work}
	rest.work.body = nil
	for _, e := range b.items {
		if late(e) {
			v.failed = append(v.failed, e)
		} else {
			rest.items = append(rest.items, e)
		}
	}
	v.err = ErrLeaseExpired
	if len(rest.items) > 0 {
		v.again = []*batch[outgoing, sending]{rest}
	}
	p.log(slog.LevelInfo, "drops what was not sent in time for its source", "messages", len(v.failed))
	return v, true
}
