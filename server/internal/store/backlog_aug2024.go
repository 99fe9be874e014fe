package store

import (
	"slices"
	"time"
)

// keepAcked is how long after a consumer's creation the 2024 server keeps acked rows. This was observed. Until then acked
// rows count toward max_ack_pending.
const keepAcked = 5 * time.Minute

// aug2024Backlog is the backlog of a consumer of the 2024 server: a table with one row for each key. The ack id of a row
// never changes. A receive looks at the first max_ack_pending rows by seq, including acked ones, and leases those that
// are available or whose lease has ended.
//
// A row is an item that always holds the newest version. It is in ready while a receive may lease it, on lease, or acked.
type aug2024Backlog struct {
	feed      feed
	rows      map[string]*item // by key
	items     items
	ready     readyHeap
	leases    leases
	pending   map[*item]struct{} // the rows on lease that are pendingRow
	acked     int                // acked rows that are kept
	keepUntil time.Time
}

// rowState is the state of a row in the table. The end of a lease does not change it.
type rowState uint8

const (
	availableRow rowState = iota
	deliveredRow
	pendingRow // replaced since it was delivered
	ackedRow
)

func newAug2024Backlog(f feed) backlog {
	b := &aug2024Backlog{
		feed:      f,
		rows:      map[string]*item{},
		pending:   map[*item]struct{}{},
		keepUntil: f.createdAt.Add(keepAcked),
	}
	b.stored(f.log.from(0))
	return b
}

// stored adds a row for each new key, and updates the rows of replaced messages.
func (b *aug2024Backlog) stored(entries []*entry) {
	b.expire(time.Now())
	for _, e := range entries {
		if e.dead || !b.feed.filter.Match(e.key) {
			continue
		}
		it := b.rows[e.key]
		if it == nil {
			it = b.items.get()
			it.id = b.feed.ids.forSlot(it.slot)
			it.entry = e
			b.rows[e.key] = it
			b.ready.push(it)
			continue
		}
		b.replace(it, e)
	}
}

func (b *aug2024Backlog) replace(it *item, e *entry) {
	switch it.row {
	case deliveredRow:
		it.row = pendingRow
	case ackedRow:
		it.row = availableRow
		b.acked--
	}
	if it.leased() {
		b.pending[it] = struct{}{}
		it.entry = e
		return
	}
	if it.isReady() {
		b.ready.remove(it)
	}
	it.entry = e
	b.ready.push(it)
}

// removed does nothing, because stored has updated the row of a replaced message, and this dialect drops no messages.
func (b *aug2024Backlog) removed(*entry) {}

// limitsChanged does nothing, because this dialect ignores max_deliver, and reads the other limits when it needs them.
func (b *aug2024Backlog) limitsChanged() {}

func (b *aug2024Backlog) Refresh(now time.Time) (available bool) {
	b.expire(now)
	if len(b.ready) == 0 {
		return false
	}
	w := b.window()
	w.advance(b.ready[0].entry.seq)
	return w.room > 0
}

func (b *aug2024Backlog) NextExpiry() (time.Time, bool) { return b.leases.nextExpiry() }

// window is the part of max_ack_pending that is left for a row: the limit minus the rows before it that are on lease or
// acked. Most such rows were among the first when they were delivered, and still are, so room subtracts them from the
// start. The rows in moved can be anywhere, because a row that is replaced moves to the end.
type window struct {
	room  int
	moved []int64 // seqs, ascending
}

func (b *aug2024Backlog) window() *window {
	w := &window{room: b.feed.limits.MaxAckPending - b.acked - b.leases.count}
	for it := range b.pending {
		w.moved = append(w.moved, it.entry.seq)
	}
	w.room += len(w.moved)
	slices.Sort(w.moved)
	return w
}

// advance moves the window to the row with this seq, which must not be lower than the one before.
func (w *window) advance(seq int64) {
	for len(w.moved) > 0 && w.moved[0] < seq {
		w.moved = w.moved[1:]
		w.room--
	}
}

func (b *aug2024Backlog) receive(n int, dst []Delivery) []Delivery {
	at := time.Now()
	b.expire(at)
	w := b.window()
	for ; n > 0 && len(b.ready) > 0; n-- {
		it := b.ready[0]
		w.advance(it.entry.seq)
		if w.room <= 0 {
			break
		}
		b.ready.remove(it)
		it.row = deliveredRow
		w.room--
		it.count++
		it.lastAt = at.UnixMicro()
		b.leases.add(it, at, b.feed.limits.AckWait)
		dst = append(dst, Delivery{Message: it.entry.message(), ID: it.id, Count: it.count, At: at})
	}
	return dst
}

// settle ends deliveries. An ack id belongs to a row and not to a lease: an ack has an effect also after the end of the
// lease, until a nack makes the row available. An ack of an available row has no effect. An ack of a row that is pending
// makes the new version available. The 2024 server has no delays, so that none is given.
func (b *aug2024Backlog) settle(ids []ID, how Settlement, _ time.Duration) {
	b.expire(time.Now())
	for _, id := range ids {
		it := b.items.find(id)
		if it == nil || it.row == availableRow || it.row == ackedRow {
			continue
		}
		if it.isReady() {
			b.ready.remove(it)
		} else {
			b.leases.remove(it)
			delete(b.pending, it)
		}
		if how == Ack && it.row == deliveredRow {
			b.ack(it)
			continue
		}
		it.row, it.until = availableRow, time.Time{}
		b.ready.push(it)
	}
}

// extend finds no leases: the 2024 server extends none.
func (b *aug2024Backlog) extend([]ID, time.Duration) []ID { return nil }

func (b *aug2024Backlog) ack(it *item) {
	if !time.Now().Before(b.keepUntil) {
		b.delete(it)
		return
	}
	it.row = ackedRow
	b.acked++
}

func (b *aug2024Backlog) delete(it *item) {
	delete(b.rows, it.entry.key)
	b.items.put(it)
}

// expire lets rows whose lease has ended be leased again, and deletes the acked rows once their time is over.
func (b *aug2024Backlog) expire(now time.Time) {
	for it := b.leases.expired(now); it != nil; it = b.leases.expired(now) {
		b.leases.remove(it)
		delete(b.pending, it)
		b.ready.push(it)
	}
	if b.acked == 0 || now.Before(b.keepUntil) {
		return
	}
	for _, it := range b.rows {
		if it.row == ackedRow {
			b.delete(it)
		}
	}
	b.acked = 0
}

// views shows no end of a lease that has ended.
func (b *aug2024Backlog) views(after int64, f func(View) bool) {
	b.expire(time.Now())
	for _, e := range b.feed.log.from(after + 1) {
		it := b.rows[e.key]
		if e.dead || it == nil || it.row == ackedRow {
			continue
		}
		v := rowView(it)
		if v.State == Available {
			v.NotVisibleUntil = 0
		}
		if !f(v) {
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
	case it.row == ackedRow:
		v.State = Acked
	}
	return v
}

// view shows the end of the last lease until a nack, as it is in the table. A message without a row is shown without
// details: its acked row was deleted.
func (b *aug2024Backlog) view(e *entry) (View, bool) {
	b.expire(time.Now())
	if it := b.rows[e.key]; it != nil {
		return rowView(it), true
	}
	if !b.feed.filter.Match(e.key) {
		return View{}, false
	}
	return View{Message: e.message(), Count: NoCount, State: Acked}, true
}

func (b *aug2024Backlog) outstanding() []Outstanding {
	b.expire(time.Now())
	return b.leases.list()
}
