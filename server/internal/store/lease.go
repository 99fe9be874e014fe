package store

import (
	"cmp"
	"slices"
	"time"
)

// leases holds the items on lease, in one queue for each lease duration. Within a queue leases end in the order they
// began, so that adding, removing and finding the next expiry take no search. There is more than one queue only after a
// consumer's ack_wait has changed while leases were out. A lease that is extended moves to a heap, because a client may
// extend each by another duration.
type leases struct {
	queues   []*leaseQueue
	extended endHeap
	count    int
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
	l.take(it)
	l.count--
}

// take takes an item out of its queue or heap.
func (l *leases) take(it *item) {
	if it.where == inExtended {
		l.extended.remove(it)
		it.where = inNoHeap
	} else {
		it.list.remove(it)
	}
}

// extend makes a lease end at until, unless it ends later.
func (l *leases) extend(it *item, until time.Time) {
	if !it.until.Before(until) {
		return
	}
	l.take(it)
	it.where = inExtended
	l.extended.add(it, until)
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
	if len(l.extended) > 0 && (first == nil || l.extended[0].until.Before(first.until)) {
		return l.extended[0]
	}
	return first
}

func (it *item) outstanding() Outstanding {
	at := time.UnixMicro(it.lastAt)
	return Outstanding{Delivery{Message: it.entry.message(), ID: it.id, Count: it.count, At: at}, it.until}
}

// list returns the leases by ascending seq.
func (l *leases) list() []Outstanding {
	out := make([]Outstanding, 0, l.count)
	l.each(func(it *item) { out = append(out, it.outstanding()) })
	slices.SortFunc(out, func(a, b Outstanding) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}
