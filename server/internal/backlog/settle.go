package backlog

import "slices"

// How says how a lease ends.
type How uint8

const (
	Ack    How = iota // the message is done
	Nack              // the message is ready again
	Return            // the message is ready again, and the delivery does not count
)

// Delivery identifies a delivery: a message and the receive that leased it.
type Delivery struct {
	Seq   int64
	Lease Lease
}

// Matters reports whether a settle of this delivery may change something now. A caller writes no record of one that does
// not. opening is that of the store.
func (b *Backlog) Matters(d Delivery, how How, now int64, opening uint64) bool {
	it := b.bySeq[d.Seq]
	if it != nil && it.leased && !it.delayed && it.lease == d.Lease {
		return it.until > now
	}
	// A loss of power may take the record of a lease, but not the delivery. An ack of a delivery that is newer than all the
	// backlog knows of the message counts. One that it knows has ended.
	if how != Ack || d.Lease.Opening >= opening || d.Seq > b.known || d.Seq <= 0 {
		return false
	}
	if it != nil {
		return it.lease.before(d.Lease)
	}
	if _, settled := b.ahead[d.Seq]; settled || !b.stream.Alive(d.Seq) {
		return false
	}
	if d.Seq >= b.next {
		return true
	}
	met, _ := b.findMet(d.Seq)
	return met != nil
}

// findMet finds the head that a met message waits for. It searches all keys: only acks of an earlier opening, for messages
// that were not delivered since, need it.
func (b *Backlog) findMet(seq int64) (it *item, index int) {
	for _, it := range b.heads {
		if i, ok := slices.BinarySearch(it.later, seq); ok {
			return it, i
		}
	}
	return nil, 0
}

// OnLease reports whether a delivery is on lease at that time.
func (b *Backlog) OnLease(d Delivery, now int64) bool {
	it := b.bySeq[d.Seq]
	return it != nil && it.leased && !it.delayed && it.lease == d.Lease && it.until > now
}

// Extends reports whether an extension to until changes anything of a delivery that is on lease: its end, or that it has been
// extended.
func (b *Backlog) Extends(d Delivery, until int64) bool {
	it := b.bySeq[d.Seq]
	return it.until < until || !it.extended
}

// Extend applies an extension of deliveries that are on lease: their leases end length from now, unless they end later.
func (b *Backlog) Extend(deliveries []Delivery, now, length int64) {
	b.Expire(now)
	for _, d := range deliveries {
		if !b.OnLease(d, now) || !b.Extends(d, now+length) {
			continue
		}
		it := b.bySeq[d.Seq]
		it.extended = true
		if it.until >= now+length {
			continue
		}
		b.out.remove(it)
		it.length, it.until = length, now+length
		b.out.push(it)
	}
}

// Settle applies a settle of deliveries that matter. With a delay, which comes with Nack and Return only, the messages are
// ready after it.
func (b *Backlog) Settle(deliveries []Delivery, how How, now, delay int64) {
	b.Expire(now)
	for _, d := range deliveries {
		it := b.bySeq[d.Seq]
		switch {
		case it != nil && it.leased && !it.delayed && it.lease == d.Lease:
			if how == Return {
				it.count--
			}
			b.endLease(it, how == Ack, now, delay)
		case how == Ack:
			b.settleUnknown(it, d.Seq)
		}
	}
}

// SettleOnLease applies a settle of those of the deliveries that are on lease.
func (b *Backlog) SettleOnLease(deliveries []Delivery, how How, now, delay int64) {
	b.Expire(now)
	for _, d := range deliveries {
		it := b.bySeq[d.Seq]
		if it == nil || !it.leased || it.delayed || it.lease != d.Lease {
			continue
		}
		if how == Return {
			it.count--
		}
		b.endLease(it, how == Ack, now, delay)
	}
}

// settleUnknown settles a message whose lease is not known: it is the head of its key, or it is met, or not read.
func (b *Backlog) settleUnknown(it *item, seq int64) {
	switch {
	case it != nil && it.leased:
		b.endLease(it, true, 0, 0)
	case it != nil:
		b.ready.remove(it)
		b.advance(it)
	case seq >= b.next:
		b.ahead[seq] = struct{}{}
	default:
		if met, i := b.findMet(seq); met != nil {
			met.later = slices.Delete(met.later, i, i+1)
			b.met--
		}
	}
}
