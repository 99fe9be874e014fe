package store

import (
	"container/heap"
	"time"
)

// delayedHeap holds the items that were nacked with a delay, the end of which comes first at the top. Each item knows its
// index, so that it can be removed from the middle.
type delayedHeap []*item

func (h *delayedHeap) add(it *item, until time.Time) {
	it.delayed, it.until = true, until
	heap.Push(h, it)
}

func (h *delayedHeap) remove(it *item) { heap.Remove(h, it.index) }

// nextEnd returns when the next delay ends; ok is false when nothing is delayed.
func (h delayedHeap) nextEnd() (at time.Time, ok bool) {
	if len(h) == 0 {
		return time.Time{}, false
	}
	return h[0].until, true
}

// Len implements heap.Interface.
func (h delayedHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h delayedHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }

// Swap implements heap.Interface.
func (h delayedHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *delayedHeap) Push(x any) {
	it := x.(*item)
	it.index = len(*h)
	*h = append(*h, it)
}

// Pop implements heap.Interface.
func (h *delayedHeap) Pop() any {
	last := len(*h) - 1
	it := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	it.index, it.delayed, it.until = -1, false, time.Time{}
	return it
}
