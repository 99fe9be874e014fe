package batch

import "time"

// SplitDelays splits items into those of about the same delay, the shortest, and the rest: a request may have one delay only.
// It returns the longest delay of the first. Delays that are at most an eighth longer than the shortest share a request, because
// after a failure of everything each item has a delay of its own, and would need a request of its own. Both parts keep their
// order.
func SplitDelays[T any](items []Entry[T], delayOf func(*T) time.Duration) (together, rest []Entry[T], delay time.Duration) {
	shortest := delayOf(&items[0].Item)
	for i := range items {
		d := delayOf(&items[i].Item)
		shortest, delay = min(shortest, d), max(delay, d)
	}
	limit := shortest + shortest/8
	if delay <= limit {
		return items, nil, delay
	}
	together, rest = Partition(items, func(e *Entry[T]) bool { return delayOf(&e.Item) > limit })
	return together, rest, 0
}
