package store

// readyHeap holds the items that can be delivered, lowest seq first. Each item knows its index, so that it can be removed
// from the middle.
type readyHeap []*item

func (h *readyHeap) push(it *item) {
	it.index = len(*h)
	*h = append(*h, it)
	h.up(it.index)
}

func (h *readyHeap) remove(it *item) {
	old := *h
	i, last := it.index, len(old)-1
	h.swap(i, last)
	old[last] = nil
	*h = old[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
	it.index = -1
}

func (h readyHeap) less(i, j int) bool { return h[i].entry.seq < h[j].entry.seq }

func (h readyHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
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
