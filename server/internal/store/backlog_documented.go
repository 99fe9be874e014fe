package store

import (
	"slices"
	"time"
)

// documentedBacklog is the backlog of a consumer as Sequin documents it: messages of one key are delivered in order, the
// next only when the one before it is settled.
//
// It has read the log up to next. Of what it has read it keeps the messages that are not settled: for each key one item
// with the oldest message, and the later messages of the key in item.later. Messages that it has not read cost nothing,
// and it reads each message once.
type documentedBacklog struct {
	feed    feed
	next    int64            // seq of the first message that it has not read
	heads   map[string]*item // by key
	ready   readyHeap
	leases  leases
	delayed endHeap
	items   items
	later   int   // messages of item.later of all heads
	share   Share // of the messages that match
}

func newDocumentedBacklog(f feed) backlog {
	return &documentedBacklog{feed: f, next: f.start, heads: map[string]*item{}}
}

// read reads the next message. It returns an item that can be delivered, or nil when the message is filtered out, dead, or
// waits for an earlier one of its key.
func (b *documentedBacklog) read(e *entry) *item {
	b.next = e.seq + 1
	if e.dead || !b.matches(e) {
		return nil
	}
	head := b.heads[e.key]
	if head != nil {
		b.later -= len(head.later)
		head.addLater(e)
		b.later += len(head.later)
		return nil
	}
	it := b.items.get()
	it.setEntry(e)
	b.heads[e.key] = it
	return it
}

// matches is the filter's Match. It notes how many messages match, if the filter may leave some out.
func (b *documentedBacklog) matches(e *entry) bool {
	if b.feed.filter.MatchesAll() {
		return true
	}
	matches := b.feed.filter.Match(e.key)
	if matches {
		b.share.Add(1, 1)
	} else {
		b.share.Add(1, 0)
	}
	return matches
}

// addLater adds a later message of the item's key. It removes dead ones from the end first, so that a key that is replaced
// again and again has at most one later message.
func (it *item) addLater(e *entry) {
	for n := len(it.later); n > 0 && it.later[n-1].dead; n-- {
		it.later[n-1].refs--
		it.later = it.later[:n-1]
	}
	e.refs++
	it.later = append(it.later, e)
}

func (it *item) setEntry(e *entry) {
	e.refs++
	it.entry, it.count, it.expired, it.lastAt = e, 0, 0, 0
}

// readToDeliverable reads messages up to the first that can be delivered, and reports whether there is one. It does not
// read that one.
func (b *documentedBacklog) readToDeliverable() bool {
	for _, e := range b.feed.log.from(b.next) {
		if b.deliverable(e) {
			b.next = e.seq
			return true
		}
		b.read(e)
	}
	return false
}

// deliverable reports whether a message that has not been read can be delivered.
func (b *documentedBacklog) deliverable(e *entry) bool {
	return !e.dead && b.heads[e.key] == nil && b.feed.filter.Match(e.key)
}

func (b *documentedBacklog) Refresh(now time.Time) (available bool) {
	b.expire(now)
	return b.room() > 0 && (len(b.ready) > 0 || b.readToDeliverable())
}

// room returns how many more messages may be on lease.
func (b *documentedBacklog) room() int {
	return b.feed.limits.MaxAckPending - b.leases.count - len(b.delayed)
}

// NextExpiry returns when the next lease or delay ends.
func (b *documentedBacklog) NextExpiry() (time.Time, bool) {
	at, out := b.leases.nextExpiry()
	if end, delayed := b.delayed.nextEnd(); delayed && (!out || end.Before(at)) {
		return end, true
	}
	return at, out
}

// limitsChanged removes the ready messages that have had as many deliveries as a lowered max_deliver allows. Messages on
// lease and delayed ones are checked when the lease or the delay ends.
func (b *documentedBacklog) limitsChanged() {
	for _, it := range slices.Clone(b.ready) {
		if b.exhausted(it) {
			b.ready.remove(it)
			b.advance(it)
		}
	}
}

func (b *documentedBacklog) exhausted(it *item) bool {
	return b.feed.limits.MaxDeliver > 0 && it.count >= b.feed.limits.MaxDeliver
}

func (b *documentedBacklog) receive(n int, dst []Delivery) []Delivery {
	at := time.Now()
	b.expire(at)
	n = min(n, b.room())
	var room AnswerRoom
	// Ready messages come first: their seqs are all below next.
	for ; n > 0 && len(b.ready) > 0; n-- {
		it := b.ready[0]
		if !room.Take(it.entry.size()) {
			return dst
		}
		b.ready.remove(it)
		dst = append(dst, b.lease(it, at))
	}
	if n <= 0 {
		return dst
	}
	for _, e := range b.feed.log.from(b.next) {
		if !room.Has(e.size()) && b.deliverable(e) {
			break
		}
		it := b.read(e)
		if it == nil {
			continue
		}
		room.Take(e.size())
		dst = append(dst, b.lease(it, at))
		if n--; n == 0 {
			break
		}
	}
	return dst
}

func (b *documentedBacklog) lease(it *item, at time.Time) Delivery {
	it.count++
	it.lastAt = at.UnixMicro()
	it.id, it.extended = b.feed.ids.forSlot(it.slot), false
	b.leases.add(it, at, b.feed.limits.AckWait)
	return Delivery{Message: it.entry.message(), ID: it.id, Count: it.count, Expired: it.expired, At: at}
}

func (b *documentedBacklog) settle(ids []ID, how Settlement, delay time.Duration) {
	now := time.Now()
	// A lease that has expired can no longer be settled, even when nothing has looked at it since.
	b.expire(now)
	for _, id := range ids {
		if it := b.items.find(id); it != nil && b.endLease(it, how) {
			if delay > 0 {
				it.where = inDelayed
				b.delayed.add(it, now.Add(delay))
			} else {
				b.ready.push(it)
			}
		}
	}
}

func (b *documentedBacklog) extend(ids []ID, wait time.Duration) (extended []ID) {
	now := time.Now()
	b.expire(now)
	for _, id := range ids {
		it := b.items.find(id)
		if it == nil {
			continue
		}
		extended = append(extended, id)
		it.extended = true
		b.leases.extend(it, now.Add(wait))
	}
	return extended
}

// endLease ends a lease. It reports whether the message is to be delivered again: the item is then in no heap.
func (b *documentedBacklog) endLease(it *item, how Settlement) (again bool) {
	b.leases.remove(it)
	it.id = ID{}
	if how == Return {
		it.count--
	}
	if how == Ack || it.entry.dead || b.exhausted(it) {
		b.advance(it)
		return false
	}
	return true
}

// expire ends the leases and the delays that have expired.
func (b *documentedBacklog) expire(now time.Time) {
	for it := b.leases.expired(now); it != nil; it = b.leases.expired(now) {
		if !it.extended {
			it.expired++
		}
		if b.endLease(it, Nack) {
			b.ready.push(it)
		}
	}
	for end, ok := b.delayed.nextEnd(); ok && !end.After(now); end, ok = b.delayed.nextEnd() {
		it := b.delayed[0]
		b.endDelay(it)
		if b.exhausted(it) { // the limit was lowered meanwhile
			b.advance(it)
		} else {
			b.ready.push(it)
		}
	}
}

func (b *documentedBacklog) endDelay(it *item) {
	b.delayed.remove(it)
	it.where = inNoHeap
}

// advance removes the item's message from the backlog. The next live message of the key takes its place. If there is none,
// the item is freed.
func (b *documentedBacklog) advance(it *item) {
	it.entry.refs--
	key := it.entry.key
	for i, e := range it.later {
		e.refs--
		b.later--
		if e.dead {
			continue
		}
		it.later = it.later[i+1:]
		it.setEntry(e)
		b.ready.push(it)
		return
	}
	delete(b.heads, key)
	b.items.put(it)
}

// stored does nothing, because new messages are read when a receive asks for them.
func (b *documentedBacklog) stored([]*entry) {}

// removed advances the key whose current message was removed. It does so at once when the message was dropped or is not on
// lease. A replaced message that is on lease withholds the new version until the lease ends. Dead messages in item.later
// are skipped by advance.
func (b *documentedBacklog) removed(e *entry) {
	it := b.heads[e.key]
	if it == nil || it.entry != e {
		return
	}
	switch {
	case it.leased() && e.dropped:
		b.endLease(it, Ack)
	case it.where == inDelayed:
		b.endDelay(it)
		b.advance(it)
	case !it.leased():
		b.ready.remove(it)
		b.advance(it)
	}
}
