package store

import (
	"cmp"
	"slices"
	"time"
)

// leases holds what is on lease, one queue for every length of lease that is out. Within a queue leases end in the
// order they began, so that adding, removing and finding the next to end take no search; that a consumer's ack_wait is
// changed while leases are out is rare, and only then there is more than one queue.
type leases struct {
	queues []*leaseQueue
	count  int
}

type leaseQueue struct {
	wait        time.Duration
	first, last *item
}

func (l *leases) add(it *item, begin time.Time, wait time.Duration) {
	q := l.queue(wait)
	it.until, it.queue, it.prev, it.next = begin.Add(wait), q, q.last, nil
	if q.last == nil {
		q.first = it
	} else {
		q.last.next = it
	}
	q.last = it
	l.count++
}

func (l *leases) queue(wait time.Duration) *leaseQueue {
	kept := l.queues[:0]
	var found *leaseQueue
	for _, q := range l.queues {
		if q.wait == wait {
			found = q
		}
		if q.wait == wait || q.first != nil {
			kept = append(kept, q)
		}
	}
	clear(l.queues[len(kept):])
	l.queues = kept
	if found == nil {
		found = &leaseQueue{wait: wait}
		l.queues = append(l.queues, found)
	}
	return found
}

func (l *leases) remove(it *item) {
	q := it.queue
	if it.prev == nil {
		q.first = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		q.last = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.queue, it.prev, it.next = nil, nil, nil
	l.count--
}

// nextEnd tells when the next lease ends; false when none is out.
func (l *leases) nextEnd() (time.Time, bool) {
	if it := l.soonest(); it != nil {
		return it.until, true
	}
	return time.Time{}, false
}

// ended returns a lease that is over, nil when there is none.
func (l *leases) ended(now time.Time) *item {
	if it := l.soonest(); it != nil && !it.until.After(now) {
		return it
	}
	return nil
}

func (l *leases) soonest() *item {
	var first *item
	for _, q := range l.queues {
		if q.first != nil && (first == nil || q.first.until.Before(first.until)) {
			first = q.first
		}
	}
	return first
}

func (l *leases) list() []Outstanding {
	out := make([]Outstanding, 0, l.count)
	for _, q := range l.queues {
		for it := q.first; it != nil; it = it.next {
			out = append(out, Outstanding{Delivery{Message: it.entry.message(), ID: it.id, Count: it.count, At: it.until.Add(-q.wait)}, it.until})
		}
	}
	slices.SortFunc(out, func(a, b Outstanding) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}
