package store

import (
	"container/heap"
	"time"
)

// endHeap holds items by the end of their delay or of their extended lease, the earliest at the top. Each item knows its
// index, so that it can be removed from the middle.
type endHeap []*item

func (h *endHeap) add(it *item, until time.Time) {
	it.until = until
	heap.Push(h, it)
}

func (h *endHeap) remove(it *item) { heap.Remove(h, it.index) }

// nextEnd returns the earliest end; ok is false when the heap is empty.
func (h endHeap) nextEnd() (at time.Time, ok bool) {
	if len(h) == 0 {
		return time.Time{}, false
	}
	return h[0].until, true
}

// Len implements heap.Interface.
func (h endHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h endHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }

// Swap implements heap.Interface.
func (h endHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *endHeap) Push(x any) {
	it := x.(*item)
	it.index = len(*h)
	*h = append(*h, it)
}

// Pop implements heap.Interface.
func (h *endHeap) Pop() any {
	last := len(*h) - 1
	it := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	it.index, it.until = -1, time.Time{}
	return it
}
