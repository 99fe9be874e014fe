package store

import (
	"slices"
	"time"
)

// keepAcked is how long after a consumer's creation the 2024 server keeps rows that are acked, as it was seen to do:
// meanwhile they go on filling the max_ack_pending window.
const keepAcked = 5 * time.Minute

// rowConsumer is a consumer of the 2024 server: a table with one row for each key, whose ack id never changes. A
// receive looks at the first max_ack_pending rows by seq, acked ones included, and leases those that are available.
//
// A row is an item that always holds the newest version. It is available (in ready), delivered (on lease), pending
// redelivery (replaced while on lease) or acked (neither).
type rowConsumer struct {
	base

	rows      map[string]*item
	items     items
	ready     readyHeap
	leases    leases
	pending   map[*item]struct{} // replaced since they were delivered, until settled or delivered again
	acked     int                // acked rows that are kept
	strays    map[*item]struct{} // those of them that were acked while they were available
	keepUntil time.Time
}

func newRowConsumer(s *stream, info ConsumerInfo) *rowConsumer {
	c := &rowConsumer{
		base:      base{stream: s, info: info, filter: newFilter(info.Filter)},
		rows:      map[string]*item{},
		pending:   map[*item]struct{}{},
		strays:    map[*item]struct{}{},
		keepUntil: info.InsertedAt.Add(keepAcked),
	}
	c.line = line{stream: s, hasWork: c.hasWork, nextExpiry: c.leases.nextEnd}
	c.self = c
	c.stored(s.log.from(0))
	return c
}

// stored makes rows of new messages and brings the rows of replaced ones up to date.
func (c *rowConsumer) stored(entries []*entry) {
	c.expire(time.Now())
	for _, e := range entries {
		if e.dead || !c.filter.match(e.key) {
			continue
		}
		it := c.rows[e.key]
		if it == nil {
			it = c.items.take()
			it.id = c.stream.ids.forSlot(it.slot)
			it.entry = e
			c.rows[e.key] = it
			c.ready.push(it)
			continue
		}
		c.replace(it, e)
	}
}

func (c *rowConsumer) replace(it *item, e *entry) {
	// A row that was delivered and not settled stays so when its lease is over, until it is delivered again.
	if !it.until.IsZero() {
		c.pending[it] = struct{}{}
	}
	switch {
	case it.leased():
		it.entry = e
		return
	case it.inHeap():
		c.ready.remove(it)
	default:
		c.acked--
		delete(c.strays, it)
	}
	it.entry = e
	c.ready.push(it)
}

// lost needs nothing: a row follows its key, and nothing is dropped.
func (c *rowConsumer) lost(*entry) {}

// limited needs nothing: max_deliver is stored and never looked at, the other limits are looked at when they matter.
func (c *rowConsumer) limited() {}

func (c *rowConsumer) hasWork(now time.Time) bool {
	c.expire(now)
	return len(c.ready) > 0 && c.window().admits(c.ready[0])
}

// window is what of max_ack_pending is used: rows before a candidate that it cannot pass. Most rows on lease, and those
// acked from a lease, were among the first when they were delivered, and so still are. Where the others stand has to be
// looked at: a replaced one has moved to the end, one acked while available can be anywhere.
type window struct {
	room  int
	moved []int64 // seqs of the others, ascending
}

func (c *rowConsumer) window() *window {
	w := &window{room: c.info.MaxAckPending - c.acked - c.leases.count}
	for it := range c.pending {
		if it.leased() {
			w.moved = append(w.moved, it.entry.seq)
		}
	}
	for it := range c.strays {
		w.moved = append(w.moved, it.entry.seq)
	}
	w.room += len(w.moved)
	slices.Sort(w.moved)
	return w
}

// admits wants candidates by ascending seq.
func (w *window) admits(it *item) bool {
	for len(w.moved) > 0 && w.moved[0] < it.entry.seq {
		w.moved = w.moved[1:]
		w.room--
	}
	return w.room > 0
}

func (c *rowConsumer) receive(n int, dst []Delivery) ([]Delivery, error) {
	if c.gone != nil {
		return dst, c.gone
	}
	at := time.Now()
	c.expire(at)
	w := c.window()
	for ; n > 0 && len(c.ready) > 0 && w.admits(c.ready[0]); n-- {
		it := c.ready[0]
		c.ready.remove(it)
		delete(c.pending, it)
		w.room--
		it.count++
		it.lastAt = at.UnixMicro()
		c.leases.add(it, at, c.info.AckWait)
		dst = append(dst, Delivery{Message: it.entry.message(), ID: it.id, Count: it.count, At: at})
	}
	return dst, nil
}

func (c *rowConsumer) settleAll(ids []ID, how Settlement) {
	c.expire(time.Now())
	for _, id := range ids {
		it := c.items.find(id)
		if it == nil || !it.leased() && !it.inHeap() {
			continue // unknown, or acked
		}
		_, moved := c.pending[it]
		delete(c.pending, it)
		stray := it.inHeap()
		if stray {
			c.ready.remove(it)
		} else {
			c.leases.remove(it)
		}
		it.until = time.Time{}
		if how == Ack && !moved {
			c.ack(it, stray)
		} else {
			c.ready.push(it)
		}
	}
}

func (c *rowConsumer) ack(it *item, stray bool) {
	if !time.Now().Before(c.keepUntil) {
		c.drop(it)
		return
	}
	c.acked++
	if stray {
		c.strays[it] = struct{}{}
	}
}

func (c *rowConsumer) drop(it *item) {
	delete(c.rows, it.entry.key)
	c.items.put(it)
}

// expire makes available what was not settled in time, and forgets acked rows when their time is over.
func (c *rowConsumer) expire(now time.Time) {
	for it := c.leases.ended(now); it != nil; it = c.leases.ended(now) {
		c.leases.remove(it)
		c.ready.push(it)
	}
	if c.acked == 0 || now.Before(c.keepUntil) {
		return
	}
	for _, it := range c.rows {
		if !it.leased() && !it.inHeap() {
			c.drop(it)
		}
	}
	c.acked = 0
	clear(c.strays)
}

func (c *rowConsumer) views(f func(View) bool) {
	c.expire(time.Now())
	for _, e := range c.stream.log.from(0) {
		if it := c.rows[e.key]; !e.dead && it != nil && (it.leased() || it.inHeap()) && !f(rowView(it)) {
			return
		}
	}
}

func rowView(it *item) View {
	v := View{Message: it.entry.message(), ID: it.id, Count: it.count, LastDeliveredAt: it.lastAt}
	if !it.until.IsZero() {
		v.NotVisibleUntil = it.until.UnixMicro()
	}
	switch {
	case it.leased():
		v.State = Delivered
	case !it.inHeap():
		v.State = Acked
	}
	return v
}

func (c *rowConsumer) view(e *entry) (View, bool) {
	c.expire(time.Now())
	if it := c.rows[e.key]; it != nil {
		return rowView(it), true
	}
	return View{}, false
}

func (c *rowConsumer) outstanding() []Outstanding {
	c.expire(time.Now())
	return c.leases.list()
}
