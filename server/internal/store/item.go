package store

import "time"

// item is an entry in a backlog: it is ready to be delivered, on lease, delayed, or, in the 2024 server's backlog only,
// acked.
type item struct {
	entry *entry
	later []*entry // later messages of the key, which wait for this one; documented backlogs only

	id       ID
	slot     uint32 // index in the backlog's slots
	where    itemHeap
	index    int      // in the ready heap, or in that of where; -1 when it is in none
	row      rowState // in the 2024 server's backlog only
	count    int      // deliveries of entry
	expired  int      // those of them that ended with their leases, neither settled nor extended
	extended bool     // the lease was extended, perhaps to no later end
	lastAt   int64    // of the last delivery, in microseconds since 1970

	until      time.Time // end of the lease or of the delay
	list       *itemList // of leases with the same duration, nil when it is in none
	prev, next *item     // in list
}

// itemHeap says in which heap of ends an item is.
type itemHeap uint8

const (
	inNoHeap   itemHeap = iota // in none
	inDelayed                  // that of the delayed
	inExtended                 // that of the extended leases
)

func (it *item) isReady() bool { return it.index >= 0 && it.where == inNoHeap }

func (it *item) leased() bool { return it.list != nil || it.where == inExtended }

// itemList is a doubly linked list of items. An item is in at most one.
type itemList struct{ first, last *item }

func (l *itemList) append(it *item) {
	it.list, it.prev, it.next = l, l.last, nil
	if l.last == nil {
		l.first = it
	} else {
		l.last.next = it
	}
	l.last = it
}

func (l *itemList) remove(it *item) {
	if it.prev == nil {
		l.first = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		l.last = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.list, it.prev, it.next = nil, nil, nil
}

// items allocates items, reuses them, and finds them by ack id, which contains the slot.
type items struct {
	slots []*item // an item keeps its slot for life
	free  []*item
}

func (s *items) get() *item {
	if n := len(s.free); n > 0 {
		it := s.free[n-1]
		s.free = s.free[:n-1]
		return it
	}
	it := &item{slot: uint32(len(s.slots)), index: -1}
	s.slots = append(s.slots, it)
	return it
}

// put frees an item that is neither on lease nor ready nor delayed.
func (s *items) put(it *item) {
	*it = item{slot: it.slot, index: -1}
	s.free = append(s.free, it)
}

// find returns the item that has this id now, or nil. An item without a lease has the zero id.
func (s *items) find(id ID) *item {
	if slot := id.slot(); int64(slot) < int64(len(s.slots)) && s.slots[slot].id == id && !id.IsZero() {
		return s.slots[slot]
	}
	return nil
}
