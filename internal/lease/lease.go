// Package lease counts the messages that a server has leased to this process.
//
// A [Lease] says how long the messages of one receive belong to the process. It does not change after it is made, so any
// goroutine may read it. A lease that is extended becomes another Lease. A [Held] points to the current lease of a delivery,
// and a [Work] is the context of work on it.
//
// A [Ledger] owns what a Subscriber counts: the messages that the server still counts as leased, and with them the room
// for more; the delayed nacks; the dead letters that are being sent; and the settles that were not confirmed before a stop
// ended. One lock guards all of it and is held for arithmetic only. A Ledger does nothing by itself: its owner asks which
// nacks are due and sends them.
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

// maxMargin is the longest default margin. By default no lease reserves more than that for a settle to reach the server.
const maxMargin = 2 * time.Second

// Terms are how long a consumer leases its messages, as last read from the server.
type Terms struct {
	AckWait time.Duration
	Margin  time.Duration // the time that a settle has to reach the server
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
// On the server the lease begins at a moment between Began and the arrival of the answer. Deadline is computed as if it
// began at Began, less a margin. Until is computed as if it began at the arrival, so that no message is received in place
// of one that the server still counts as leased.
type Lease struct {
	Began      time.Time
	HandOverBy time.Time       // no message is delivered to the program after it
	Deadline   time.Time       // no message is settled after it
	Until      time.Time       // the server's lease has certainly ended
	Margin     time.Duration   // the time that a settle has to reach the server
	Parent     context.Context // of Context: it ends when the Subscriber stops waiting for its deliveries

	once sync.Once
	ctx  context.Context
}

// New returns the lease of an answer that arrived at arrived. Its request was sent at sent, and waited at the server for
// waited. ack_wait may have changed while the request ran, so New takes the terms at both ends: atSend and atArrival. The
// shorter ones limit the time of the program. The longer ones say how long the messages take up room.
func New(sent time.Time, waited time.Duration, arrived time.Time, atSend, atArrival Terms, parent context.Context) *Lease {
	short, long := atSend, atArrival
	if short.AckWait > long.AckWait {
		short, long = long, short
	}
	began := sent.Add(waited)
	usable := short.AckWait - short.Margin
	deadline := began.Add(usable)
	// A program that reads a message at HandOverBy has one margin to handle it. If the margin is a large part of the lease,
	// it has half of the usable time instead, and the other half is left for the wait in the channel. Without that half
	// every message would be returned at once.
	handOverBy := deadline.Add(-min(short.Margin, usable/2))
	return &Lease{Began: began, HandOverBy: handOverBy, Deadline: deadline, Until: arrived.Add(long.AckWait),
		Margin: short.Margin, Parent: parent}
}

// Half returns when half of the time of the program is over.
func (l *Lease) Half() time.Time { return l.Began.Add(l.Deadline.Sub(l.Began) / 2) }

// Context returns a context that ends at the Deadline, or with Parent. It is the same at every call.
func (l *Lease) Context() context.Context {
	l.once.Do(func() {
		ctx, cancel := context.WithDeadline(l.Parent, l.Deadline)
		context.AfterFunc(ctx, cancel) // ends with its parent or its deadline; nobody else cancels it
		l.ctx = ctx
	})
	return l.ctx
}

// Past reports whether t has come, by the monotonic or by the wall clock. It reads both, because the monotonic clock stops
// while a machine sleeps, and the wall clock may be set back.
func Past(now, t time.Time) bool {
	if !now.Before(t) {
		return true
	}
	seconds, until := now.Unix(), t.Unix() // of the wall clock; Round(0) takes three times as long
	return seconds > until || seconds == until && now.Nanosecond() >= t.Nanosecond()
}
