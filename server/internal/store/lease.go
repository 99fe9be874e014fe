package store

import (
	"cmp"
	"slices"
	"time"
)

// leases holds the items on lease, in one queue for each lease duration. Within a queue leases end in the order they
// began, so that adding, removing and finding the next expiry take no search. There is more than one queue only after a
// consumer's ack_wait has changed while leases were out.
type leases struct {
	queues []*leaseQueue
	count  int
}

type leaseQueue struct {
	wait  time.Duration
	items itemList
}

func (l *leases) add(it *item, begin time.Time, wait time.Duration) {
	it.until = begin.Add(wait)
	l.queue(wait).items.append(it)
	l.count++
}

// queue returns the queue of a duration, and drops the other queues that are empty.
func (l *leases) queue(wait time.Duration) *leaseQueue {
	kept := l.queues[:0]
	var found *leaseQueue
	for _, q := range l.queues {
		if q.wait == wait {
			found = q
		}
		if q.wait == wait || q.items.first != nil {
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
	it.list.remove(it)
	l.count--
}

// nextExpiry returns when the next lease ends; ok is false when none is out.
func (l *leases) nextExpiry() (at time.Time, ok bool) {
	if it := l.soonest(); it != nil {
		return it.until, true
	}
	return time.Time{}, false
}

// expired returns an item whose lease has ended, or nil.
func (l *leases) expired(now time.Time) *item {
	if it := l.soonest(); it != nil && !it.until.After(now) {
		return it
	}
	return nil
}

func (l *leases) soonest() *item {
	var first *item
	for _, q := range l.queues {
		if it := q.items.first; it != nil && (first == nil || it.until.Before(first.until)) {
			first = it
		}
	}
	return first
}

// list returns the leases by ascending seq.
func (l *leases) list() []Outstanding {
	out := make([]Outstanding, 0, l.count)
	for _, q := range l.queues {
		for it := q.items.first; it != nil; it = it.next {
			out = append(out, Outstanding{Delivery{Message: it.entry.message(), ID: it.id, Count: it.count, At: it.until.Add(-q.wait)}, it.until})
		}
	}
	slices.SortFunc(out, func(a, b Outstanding) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}
