package store

import (
	"slices"
	"time"
)

// leaseConsumer is a consumer as Sequin documents it.
//
// It has looked at every message below next. Of those it holds what is not settled: for each key one item, the oldest
// message, with the later ones behind it; everything else is settled or filtered out. What lies from next on costs
// nothing, however long the backlog: each message is looked at once.
type leaseConsumer struct {
	base

	next   int64
	heads  map[string]*item
	ready  readyHeap
	leases leases
	items  items
}

func newLeaseConsumer(s *stream, info ConsumerInfo) *leaseConsumer {
	c := &leaseConsumer{base: base{stream: s, info: info, filter: newFilter(info.Filter)}, heads: map[string]*item{}}
	c.line = line{stream: s, hasWork: c.hasWork, nextExpiry: c.leases.nextEnd}
	c.self = c
	return c
}

// meet looks at the next message and returns its item, which can be delivered, or nil when it cannot: filtered out,
// dead, or behind another one of its key.
func (c *leaseConsumer) meet(e *entry) *item {
	c.next = e.seq + 1
	if e.dead || !c.filter.match(e.key) {
		return nil
	}
	head := c.heads[e.key]
	if head != nil {
		head.wait(e)
		return nil
	}
	it := c.items.take()
	it.hold(e)
	c.heads[e.key] = it
	return it
}

// wait puts e behind the item. Of a key that is replaced again and again at most one is alive: the dead make room.
func (it *item) wait(e *entry) {
	for n := len(it.behind); n > 0 && it.behind[n-1].dead; n-- {
		it.behind[n-1].held--
		it.behind = it.behind[:n-1]
	}
	e.held++
	it.behind = append(it.behind, e)
}

func (it *item) hold(e *entry) {
	e.held++
	it.entry, it.count, it.lastAt = e, 0, 0
}

// skim looks at messages until one can be delivered, and returns it without going past it.
func (c *leaseConsumer) skim() *entry {
	for _, e := range c.stream.log.from(c.next) {
		if !e.dead && c.heads[e.key] == nil && c.filter.match(e.key) {
			c.next = e.seq
			return e
		}
		c.meet(e)
	}
	return nil
}

// hasWork tells whether a receive would get something.
func (c *leaseConsumer) hasWork(now time.Time) bool {
	c.expire(now)
	return c.leases.count < c.info.MaxAckPending && (len(c.ready) > 0 || c.skim() != nil)
}

// limited gives up what a lowered max_deliver leaves no delivery. What is on lease is looked at when that ends.
func (c *leaseConsumer) limited() {
	for _, it := range slices.Clone(c.ready) {
		if c.exhausted(it) {
			c.ready.remove(it)
			c.advance(it)
		}
	}
}

func (c *leaseConsumer) exhausted(it *item) bool {
	return c.info.MaxDeliver > 0 && it.count >= c.info.MaxDeliver
}

func (c *leaseConsumer) receive(n int, dst []Delivery) ([]Delivery, error) {
	if c.gone != nil {
		return dst, c.gone
	}
	at := time.Now()
	c.expire(at)
	n = min(n, c.info.MaxAckPending-c.leases.count)
	// What was met before comes first: its seqs are all below next.
	for ; n > 0 && len(c.ready) > 0; n-- {
		it := c.ready[0]
		c.ready.remove(it)
		dst = append(dst, c.lease(it, at))
	}
	if n <= 0 {
		return dst, nil
	}
	for _, e := range c.stream.log.from(c.next) {
		it := c.meet(e)
		if it == nil {
			continue
		}
		dst = append(dst, c.lease(it, at))
		if n--; n == 0 {
			break
		}
	}
	return dst, nil
}

func (c *leaseConsumer) lease(it *item, at time.Time) Delivery {
	it.count++
	it.lastAt = at.UnixMicro()
	it.id = c.stream.ids.forSlot(it.slot)
	c.leases.add(it, at, c.info.AckWait)
	return Delivery{Message: it.entry.message(), ID: it.id, Count: it.count, At: at}
}

func (c *leaseConsumer) settleAll(ids []ID, how Settlement) {
	// A lease that is over is over, also when nobody has looked since.
	c.expire(time.Now())
	for _, id := range ids {
		if it := c.items.find(id); it != nil {
			c.settle(it, how)
		}
	}
}

func (c *leaseConsumer) settle(it *item, how Settlement) {
	c.leases.remove(it)
	it.id = ID{}
	if how == Return {
		it.count--
	}
	if how == Ack || it.entry.dead || c.exhausted(it) {
		c.advance(it)
		return
	}
	c.ready.push(it)
}

// expire ends the leases whose time is over.
func (c *leaseConsumer) expire(now time.Time) {
	for it := c.leases.ended(now); it != nil; it = c.leases.ended(now) {
		c.settle(it, Nack)
	}
}

// advance is done with the item's message: the next living one behind it takes its place, else the key is free.
func (c *leaseConsumer) advance(it *item) {
	it.entry.held--
	key := it.entry.key
	for i, e := range it.behind {
		e.held--
		if e.dead {
			continue
		}
		it.behind = it.behind[i+1:]
		it.hold(e)
		c.ready.push(it)
		return
	}
	delete(c.heads, key)
	c.items.put(it)
}

// stored needs nothing: new messages are met when somebody asks for them.
func (c *leaseConsumer) stored([]*entry) {}

// lost lets a key go on whose item died: at once when the message was dropped or not on lease, at the end of the lease
// when it was replaced (the new version is withheld until then). The dead behind an item are passed over by advance.
func (c *leaseConsumer) lost(e *entry) {
	it := c.heads[e.key]
	if it == nil || it.entry != e {
		return
	}
	switch {
	case it.leased() && e.dropped:
		c.settle(it, Ack)
	case !it.leased():
		c.ready.remove(it)
		c.advance(it)
	}
}
