package backlog

// Lease identifies one receive of a consumer. Leases are ordered: a later receive has a higher one, also after a restart
// that has lost the records of some receives.
type Lease struct {
	Opening uint64 // of the store, from 1
	Receive uint64 // of the consumer in that opening, from 1
}

func (l Lease) before(o Lease) bool {
	return l.Opening < o.Opening || l.Opening == o.Opening && l.Receive < o.Receive
}

// item is the head of a key. It is on lease, delayed, or ready, or it seeks: the key has unsettled messages from more on, and which
// they are has to be read from the stream.
type item struct {
	key   Hash
	seq   int64   // 0 when it seeks
	later []int64 // met messages of the key, ascending
	more  int64   // 0, or the first message of the key that was left out of later

	lease   Lease // the last one of seq, zero for none
	until   int64 // end of the lease or of the delay
	length  int64 // of the lease or of the delay
	lastAt  int64 // when it was delivered last
	count   int   // deliveries of seq
	expired int   // those of them that ended with their leases, neither settled nor extended
	index   int   // in its heap
	leased  bool  // or delayed: it is in the leaseHeap
	delayed bool

	extended bool // the lease was extended, perhaps to no later end
}

// readyHeap is a heap of items by seq. Each item knows its index, so that it can be removed from the middle.
type readyHeap []*item

func (h *readyHeap) push(it *item) {
	it.leased = false
	*h = append(*h, it)
	up(*h, len(*h)-1, bySeq)
}

func (h *readyHeap) remove(it *item) { *h = remove(*h, it.index, bySeq) }

func bySeq(a, b *item) bool { return a.seq < b.seq }

// topHeap is a heap of indexes into a readyHeap.
type topHeap struct {
	ready   readyHeap
	indexes []int
}

func (h topHeap) Len() int           { return len(h.indexes) }
func (h topHeap) Less(i, j int) bool { return bySeq(h.ready[h.indexes[i]], h.ready[h.indexes[j]]) }
func (h topHeap) Swap(i, j int)      { h.indexes[i], h.indexes[j] = h.indexes[j], h.indexes[i] }
func (h *topHeap) Push(i any)        { h.indexes = append(h.indexes, i.(int)) }

func (h *topHeap) Pop() any {
	last := len(h.indexes) - 1
	i := h.indexes[last]
	h.indexes = h.indexes[:last]
	return i
}

// leaseHeap is a heap of items by the end of their lease or delay.
type leaseHeap []*item

func (h *leaseHeap) push(it *item) {
	it.leased = true
	*h = append(*h, it)
	up(*h, len(*h)-1, byEnd)
}

func (h *leaseHeap) remove(it *item) {
	it.leased, it.delayed = false, false
	*h = remove(*h, it.index, byEnd)
}

func (h leaseHeap) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		down(h, i, byEnd)
	}
}

// byEnd orders leases that end together by seq, so that a replay ends them in the same order.
func byEnd(a, b *item) bool { return a.until < b.until || a.until == b.until && a.seq < b.seq }

func remove(h []*item, i int, less func(a, b *item) bool) []*item {
	last := len(h) - 1
	it := h[last]
	h[last] = nil
	h = h[:last]
	if i < last {
		h[i] = it
		it.index = i
		down(h, i, less)
		up(h, it.index, less)
	}
	return h
}

func up(h []*item, i int, less func(a, b *item) bool) {
	it := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !less(it, h[parent]) {
			break
		}
		h[i] = h[parent]
		h[i].index = i
		i = parent
	}
	h[i] = it
	it.index = i
}

func down(h []*item, i int, less func(a, b *item) bool) {
	it := h[i]
	for {
		least := 2*i + 1
		if least >= len(h) {
			break
		}
		if r := least + 1; r < len(h) && less(h[r], h[least]) {
			least = r
		}
		if !less(h[least], it) {
			break
		}
		h[i] = h[least]
		h[i].index = i
		i = least
	}
	h[i] = it
	it.index = i
}
