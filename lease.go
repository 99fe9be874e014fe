package sequin

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// minLease is the shortest ack_wait that leaves time to hand a message over and to settle it.
const minLease = 100 * time.Millisecond

// maxMargin bounds the default margin: a settle that takes longer than 2 s to travel is not waited for.
const maxMargin = 2 * time.Second

// leaseTerms are how long a consumer leases, as last read.
type leaseTerms struct {
	ackWait time.Duration
	margin  time.Duration // what a settle gets to travel
}

func newLeaseTerms(ackWait, margin time.Duration) leaseTerms {
	if margin == 0 || margin > ackWait/2 { // an ack_wait that was shortened meanwhile overrules the config
		margin = min(ackWait/4, maxMargin)
	}
	return leaseTerms{ackWait, margin}
}

// lease is what the messages of one receive share: the time they are this program's.
//
// The server counts from a moment between began and the answer's arrival. What the program may do is counted from the
// first and ends a margin early, at deadline; what takes up room is counted from the second, so that nothing is received
// in place of a message that the server still holds to be out.
type lease struct {
	began    time.Time
	deadline time.Time // nothing is settled after it
	near     time.Time // some time before: nothing is handed over after it
	until    time.Time // the server's lease is surely over
	margin   time.Duration
	cut      context.Context // ends with the Subscriber

	once sync.Once
	ctx  context.Context

	// shelved is how long the last of its messages stayed in the channel. Written by intake, read by late settles.
	shelved atomic.Int64

	// Guarded by the Subscriber's mu.
	room       int // messages that the server may hold to be out
	open       int // of these, no word of a settle yet
	prev, next *lease

	// Intake's own.
	to      uint64 // where in the order of handing over its last message stands
	behind  uint64 // where that order stood when its first was put on the channel
	settles uint64 // how many settles the program had made by then
	round   int    // of the window, when it was asked for
	limits  bool   // there was more to receive, and the window did not let it
}

// newLease is the lease of an answer to a request that was sent at sent, was held back by the server for waited, and has
// arrived now. The consumer may have been read again since the request left, and its ack_wait may have changed before or
// after the hand-out: the shorter one counts for the program and the longer one for the room.
func newLease(sent time.Time, waited time.Duration, arrived time.Time, then, since leaseTerms, cut context.Context) *lease {
	short, long := then, since
	if short.ackWait > long.ackWait {
		short, long = long, short
	}
	began := sent.Add(waited)
	usable := short.ackWait - short.margin
	deadline := began.Add(usable)
	// A program that takes a message one margin before its deadline has that long to work. Where the margin is a large part
	// of the lease this leaves half of what is usable to whoever reads slowly: with none, all would be given back at once.
	near := deadline.Add(-min(short.margin, usable/2))
	return &lease{began: began, deadline: deadline, near: near, until: arrived.Add(long.ackWait),
		margin: short.margin, cut: cut}
}

func (l *lease) context() context.Context {
	l.once.Do(func() {
		ctx, cancel := context.WithDeadline(l.cut, l.deadline)
		context.AfterFunc(ctx, cancel) // ends with its parent or its deadline; nobody else cancels it
		l.ctx = ctx
	})
	return l.ctx
}

// past reports whether t has come, by the monotonic or by the wall clock: the first stands still while a machine
// sleeps, the second may be set back.
func past(now, t time.Time) bool {
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}

// leases are those that take up room, by the end of the server's lease, earliest first. A list, because every receive
// adds one, near the end, and every settle may take one out of the middle.
type leases struct{ first, last *lease }

func (ls *leases) add(l *lease) {
	after := ls.last
	for after != nil && l.until.Before(after.until) {
		after = after.prev
	}
	l.prev = after
	if after == nil {
		l.next, ls.first = ls.first, l
	} else {
		l.next, after.next = after.next, l
	}
	if l.next == nil {
		ls.last = l
	} else {
		l.next.prev = l
	}
}

// remove leaves l pointing nowhere: a kept Delivery must not keep the leases of others.
func (ls *leases) remove(l *lease) {
	if l.prev == nil {
		ls.first = l.next
	} else {
		l.prev.next = l.next
	}
	if l.next == nil {
		ls.last = l.prev
	} else {
		l.next.prev = l.prev
	}
	l.prev, l.next = nil, nil
}
