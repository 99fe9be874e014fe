package batch

import (
	"slices"
	"time"
)

// lane is a queue of items, and the batches that run before what is queued.
type lane[T, W any] struct {
	number int
	open   bool // items are in it; see spread.go
	ran    bool // a batch has ended since it was opened

	queue  []Entry[T]
	head   int       // index of the first item in the queue; those before it have left
	bytes  int       // size of the queued items
	since  time.Time // the first item has waited at least since then
	urgent int       // how many items at the front of the queue do not wait for more

	retries    []*Batch[T, W]
	candidates candidates[T, W]
	resume     time.Time // end of the backoff
	limits     Limits    // at the latest dispatch

	inFlight int
	spares   [][]Entry[T] // the memory of batches that succeeded, at most one for each slot
}

func (l *lane[T, W]) pending() []Entry[T] { return l.queue[l.head:] }

func (l *lane[T, W]) queued() int { return len(l.queue) - l.head }

func (l *lane[T, W]) hasWork() bool { return len(l.retries) > 0 || l.queued() > 0 }

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

// keepSpare keeps the memory of a batch for a later one, unless the lane already keeps as many as it has slots.
func (l *lane[T, W]) keepSpare(items []Entry[T], slots int) {
	if len(l.spares) < slots {
		clear(items)
		l.spares = append(l.spares, items[:0])
	}
}

// putBack keeps the batches that are to run again after a run of b.
func (l *lane[T, W]) putBack(b *Batch[T, W], r Result[T, W], now time.Time, inOrder bool) {
	for _, again := range r.Again {
		again.lane = l
	}
	switch resume := now.Add(r.Wait); {
	case b.Candidate:
		l.candidates.replace(b, r.Again, resume)
	case r.Aside:
		l.makeCandidates(r.Again, resume, inOrder)
	default:
		if r.Wait > 0 {
			l.resume = resume
		}
		if len(r.Again) > 0 {
			l.retries = slices.Concat(r.Again, l.retries)
		}
	}
}

// remove removes the unwanted items from the queue and from the batches that wait to run again. part is Config.Part.
func (l *lane[T, W]) remove(unwanted func(*T) bool, part func(*Batch[T, W]) W) (removed []Entry[T]) {
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
			if b.running {
				kept = append(kept, b)
				continue
			}
			items := split(b.Items)
			switch {
			case len(items) == len(b.Items):
				kept = append(kept, b)
			case len(items) > 0: // another batch, with a Work of its own
				rest := &Batch[T, W]{Items: items, lane: l, Candidate: b.Candidate, resume: b.resume}
				if part != nil {
					rest.Work = part(b)
				}
				kept = append(kept, rest)
			}
		}
		return kept
	}
	l.retries, l.candidates.list = splitAll(l.retries), splitAll(l.candidates.list)
	l.candidates.refresh()
	return removed
}

// appendTo appends all items of the lane, in order.
func (l *lane[T, W]) appendTo(items []Entry[T]) []Entry[T] {
	for _, b := range l.candidates.list {
		items = append(items, b.Items...)
	}
	for _, b := range l.retries {
		items = append(items, b.Items...)
	}
	return append(items, l.pending()...)
}
