// Package lease keeps account of the messages that a server has leased to this process.
//
// A [Lease] says how long the messages of one receive belong to the process. It does not change after it has been made,
// so that any goroutine may read it. A lease that is extended becomes another Lease.
//
// A [Ledger] owns what a Subscriber counts: the messages that the server may hold to be leased, and with them the room
// for more; the nacks that are sent later; the dead letters that are on their way; and, when the Subscriber stops, the
// settles that did not get through. One lock guards all of it and is held for arithmetic only. A Ledger does nothing by
// itself: its owner asks what is due and sends it.
//
// The package knows nothing of HTTP, of the content of messages, or of how many messages a program should have in flight.
// It starts no goroutine.
package lease

import (
	"context"
	"sync"
	"time"
)

// MinAckWait is the shortest ack_wait that leaves time to deliver a message and to settle it.
const MinAckWait = 100 * time.Millisecond

// maxMargin bounds the default margin: a settle that takes longer than 2 s to travel is not waited for.
const maxMargin = 2 * time.Second

// Terms are how long a consumer leases its messages, as last read from the server.
type Terms struct {
	AckWait time.Duration
	Margin  time.Duration // the time that a settle gets to travel
}

// NewTerms returns the terms of a consumer. A margin of 0, or of more than half of ackWait, is replaced by the default,
// a quarter of ackWait and at most 2 s: an ack_wait that was shortened overrules the configured margin.
func NewTerms(ackWait, margin time.Duration) Terms {
	if margin == 0 || margin > ackWait/2 {
		margin = min(ackWait/4, maxMargin)
	}
	return Terms{ackWait, margin}
}

// Lease is the time for which the messages of one receive belong to this process. Its fields must not be changed.
//
// The server counts the lease from a moment between Began and the arrival of the answer. What the program may do is
// counted from the earlier of the two and ends a margin early, at Deadline. What takes up room is counted from the later
// one and ends at Until, so that nothing is received in place of a message that the server still holds to be leased.
type Lease struct {
	Began      time.Time
	HandOverBy time.Time       // no message is delivered to the program after it
	Deadline   time.Time       // no message is settled after it
	Until      time.Time       // the server's lease is over for certain
	Margin     time.Duration   // what a settle has to travel
	Parent     context.Context // of Context: it ends when the Subscriber stops waiting for its deliveries

	once sync.Once
	ctx  context.Context
}

// New returns the lease of an answer that has arrived now. Its request was sent at sent and waited at the server for
// waited. The consumer may have been read again since the request was sent, and its ack_wait may have changed before or
// after the messages were leased: then and since are the terms of both times. The shorter of them limits what the program
// may do, and the longer one how long the messages take up room.
func New(sent time.Time, waited time.Duration, arrived time.Time, then, since Terms, parent context.Context) *Lease {
	short, long := then, since
	if short.AckWait > long.AckWait {
		short, long = long, short
	}
	began := sent.Add(waited)
	usable := short.AckWait - short.Margin
	deadline := began.Add(usable)
	// A program that takes a message one margin before its deadline has that long to work. Where the margin is a large
	// part of the lease, half of what is usable is left to a program that reads slowly: with none, every message would be
	// returned at once.
	handOverBy := deadline.Add(-min(short.Margin, usable/2))
	return &Lease{Began: began, HandOverBy: handOverBy, Deadline: deadline, Until: arrived.Add(long.AckWait),
		Margin: short.Margin, Parent: parent}
}

// Context returns a context that ends at the Deadline, or with Parent. It is the same at every call.
func (l *Lease) Context() context.Context {
	l.once.Do(func() {
		ctx, cancel := context.WithDeadline(l.Parent, l.Deadline)
		context.AfterFunc(ctx, cancel) // ends with its parent or its deadline; nobody else cancels it
		l.ctx = ctx
	})
	return l.ctx
}

// Past reports whether t has come, by the monotonic or by the wall clock: the first one stops while a machine sleeps, the
// second one may be set back.
func Past(now, t time.Time) bool {
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}
