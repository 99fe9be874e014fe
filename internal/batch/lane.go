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

	queue  queue[T]
	since  time.Time // the first item has waited at least since then
	urgent int       // how many items at the front of the queue do not wait for more

	retries    []*Batch[T, W]
	candidates candidates[T, W]
	resume     time.Time // end of the backoff
	limits     Limits    // at the latest dispatch

	inFlight int
}

func (l *lane[T, W]) queued() int { return l.queue.n }

// isFull reports whether a full batch is queued.
func (l *lane[T, W]) isFull() bool {
	return l.queue.n >= l.limits.Count || l.limits.filled(l.queue.bytes)
}

func (l *lane[T, W]) hasWork() bool { return len(l.retries) > 0 || l.queued() > 0 }

// makeUrgent sends what is queued now without waiting for more items.
func (l *lane[T, W]) makeUrgent() { l.urgent = l.queued() }

// takeRetry takes the first batch that waits for a retry, or nil.
func (l *lane[T, W]) takeRetry() *Batch[T, W] {
	if len(l.retries) == 0 {
		return nil
	}
	next := l.retries[0]
	l.retries = slices.Delete(l.retries, 0, 1)
	return next
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
		// Another batch of the lane may have to run again before this one.
		if r.Wait > 0 && (!now.Before(l.resume) || resume.Before(l.resume)) {
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
	if kept := split(l.queue.appendTo(nil)); len(kept) < l.queued() {
		l.queue.empty()
		for i := range kept {
			l.queue.push(&kept[i], l.limits)
		}
		l.urgent = min(l.urgent, len(kept))
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
	return l.queue.appendTo(items)
}
