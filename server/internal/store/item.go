package store

import "time"

// item is a message that a consumer has met and not settled: the oldest such of its key. It waits to be delivered
// (ready) or is on lease.
type item struct {
	entry  *entry
	behind []*entry // later messages of the key, which wait for this one

	id     ID
	slot   uint32 // where the consumer's slots hold this item
	place  int    // in the ready heap, -1 when not there
	count  int    // deliveries of entry
	lastAt int64  // of the last delivery, in microseconds since 1970

	until      time.Time // end of the lease
	queue      *leaseQueue
	prev, next *item
}

func (it *item) inHeap() bool { return it.place >= 0 }

func (it *item) leased() bool { return it.queue != nil }

// items makes items, uses them again, and finds them by ack id: the id names the slot.
type items struct {
	slots []*item // an item keeps its slot for life
	free  []*item
}

func (s *items) take() *item {
	if n := len(s.free); n > 0 {
		it := s.free[n-1]
		s.free = s.free[:n-1]
		return it
	}
	it := &item{slot: uint32(len(s.slots)), place: -1}
	s.slots = append(s.slots, it)
	return it
}

// put takes back an item that is neither on lease nor in the heap.
func (s *items) put(it *item) {
	*it = item{slot: it.slot, place: -1}
	s.free = append(s.free, it)
}

// find returns the item that has this id now, nil when none has.
func (s *items) find(id ID) *item {
	if slot := id.slot(); int64(slot) < int64(len(s.slots)) && s.slots[slot].id == id {
		return s.slots[slot]
	}
	return nil
}

// readyHeap holds items that can be delivered again, lowest seq first. An item knows its place and can leave from the
// middle.
type readyHeap []*item

func (h *readyHeap) push(it *item) {
	it.place = len(*h)
	*h = append(*h, it)
	h.up(it.place)
}

func (h *readyHeap) remove(it *item) {
	old := *h
	i, last := it.place, len(old)-1
	h.swap(i, last)
	old[last] = nil
	*h = old[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
	it.place = -1
}

func (h readyHeap) less(i, j int) bool { return h[i].entry.seq < h[j].entry.seq }

func (h readyHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h readyHeap) up(i int) {
	for parent := (i - 1) / 2; i > 0 && h.less(i, parent); parent = (i - 1) / 2 {
		h.swap(i, parent)
		i = parent
	}
}

func (h readyHeap) down(i int) {
	for {
		least := i
		if l := 2*i + 1; l < len(h) && h.less(l, least) {
			least = l
		}
		if r := 2*i + 2; r < len(h) && h.less(r, least) {
			least = r
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
