package batch

import (
	"slices"
	"time"
)

// lane is a queue of items, and the batches that run before what is queued.
type lane[T, W any] struct {
	queue  []Entry[T]
	head   int       // where the queue begins: what is before it has left
	bytes  int       // of the queue
	since  time.Time // the first item has waited at least since then
	urgent int       // how many of the first items do not wait for more

	retries       []*Batch[T, W]
	candidates    []*Batch[T, W] // poison candidates
	candidateTurn bool           // a candidate is next, not one of its control batches
	resume        time.Time      // end of the backoff

	inFlight int
	spares   [][]Entry[T] // the memory of batches that succeeded, at most one for each slot
}

func (l *lane[T, W]) pending() []Entry[T] { return l.queue[l.head:] }

func (l *lane[T, W]) queued() int { return len(l.queue) - l.head }

func (l *lane[T, W]) hasWork() bool { return l.hasRetries() || l.queued() > 0 }

func (l *lane[T, W]) hasRetries() bool { return len(l.candidates) > 0 || len(l.retries) > 0 }

// makeUrgent sends what is queued now without waiting for more items.
func (l *lane[T, W]) makeUrgent() { l.urgent = l.queued() }

// push appends a copy of e to the queue. It reports whether the queue was empty.
func (l *lane[T, W]) push(e *Entry[T]) (first bool) {
	n := l.queued()
	if l.head > n && len(l.queue) == cap(l.queue) {
		l.queue = append(l.queue[:0], l.pending()...) // move to the front rather than grow
		clear(l.queue[n:cap(l.queue)])
		l.head = 0
	}
	l.queue = append(l.queue, *e)
	l.bytes += e.Size
	return n == 0
}

// takeRetry takes the first batch that waits for a retry, or nil.
func (l *lane[T, W]) takeRetry() *Batch[T, W] {
	if len(l.retries) == 0 {
		return nil
	}
	next := l.retries[0]
	l.retries = slices.Delete(l.retries, 0, 1)
	return next
}

// emptyList returns an empty list for n items, in the memory of an earlier batch where that is large enough.
func (l *lane[T, W]) emptyList(n int) []Entry[T] {
	if last := len(l.spares) - 1; last >= 0 {
		spare := l.spares[last]
		l.spares = l.spares[:last]
		if cap(spare) >= n {
			return spare
		}
	}
	return make([]Entry[T], 0, n)
}

// keepSpare keeps the memory of a batch for a later one, unless the lane has one for each slot.
func (l *lane[T, W]) keepSpare(items []Entry[T], slots int) {
	if len(l.spares) < slots {
		clear(items)
		l.spares = append(l.spares, items[:0])
	}
}

// putBack takes back what is to run again.
func (l *lane[T, W]) putBack(r Result[T, W], now time.Time) {
	if r.Wait > 0 {
		l.resume = now.Add(r.Wait)
	}
	for _, again := range r.Again {
		again.lane = l
	}
	if len(r.Again) > 0 {
		l.retries = slices.Concat(r.Again, l.retries)
	}
	if r.Candidate != nil {
		r.Candidate.lane = l
		l.candidates = append(l.candidates, r.Candidate)
	}
	// Retries hold later items than what is requeued, and so follow it. A retry must not hold an ID of a candidate either:
	// cut anew without that ID, it can be a control batch. Halves of a control batch hold none, and stay halves.
	if len(r.Requeue) > 0 || r.Candidate != nil && r.Candidate.sharesID(l.retries) {
		l.requeue(r.Requeue)
	}
}

// requeue puts items back at the head of the queue, and all retries behind them.
func (l *lane[T, W]) requeue(items []Entry[T]) {
	back := slices.Clip(items)
	for _, b := range l.retries {
		back = append(back, b.Items...)
	}
	l.retries = nil
	for i := range back {
		l.bytes += back[i].Size
	}
	l.urgent += len(back) // what has left once has waited for more items before
	l.queue, l.head = slices.Concat(back, l.pending()), 0
}

// remove takes the unwanted items out of the queue and out of the batches that wait to run again.
func (l *lane[T, W]) remove(unwanted func(*T) bool) (removed []Entry[T]) {
	split := func(items []Entry[T]) []Entry[T] {
		kept, out := Partition(items, func(e *Entry[T]) bool { return unwanted(&e.Item) })
		removed = append(removed, out...)
		return kept
	}
	if queue := split(l.pending()); len(queue) < l.queued() {
		l.queue, l.head, l.bytes, l.urgent = queue, 0, 0, min(l.urgent, len(queue))
		for i := range queue {
			l.bytes += queue[i].Size
		}
	}
	splitAll := func(batches []*Batch[T, W]) (kept []*Batch[T, W]) {
		for _, b := range batches {
			items := split(b.Items)
			switch {
			case len(items) == len(b.Items):
				kept = append(kept, b)
			case len(items) > 0:
				kept = append(kept, &Batch[T, W]{Items: items, lane: l}) // another batch, with a Work of its own
			}
		}
		return kept
	}
	l.retries, l.candidates = splitAll(l.retries), splitAll(l.candidates)
	return removed
}

// appendTo appends all items of the lane, in order.
func (l *lane[T, W]) appendTo(items []Entry[T]) []Entry[T] {
	for _, b := range l.candidates {
		items = append(items, b.Items...)
	}
	for _, b := range l.retries {
		items = append(items, b.Items...)
	}
	return append(items, l.pending()...)
}
