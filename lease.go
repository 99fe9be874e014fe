package sequin

import (
	"context"
	"slices"
	"sync"
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
type lease struct {
	deadline time.Time
	near     time.Time       // one margin before: nothing is handed over after it
	cut      context.Context // ends with the Subscriber

	once sync.Once
	ctx  context.Context

	// Guarded by the Subscriber's mu.
	open  int  // messages that hold room
	ended bool // the deadline has passed and open has been given back

	to uint64 // intake's: where in the order of handing over its last message stands
}

// newLease counts from the moment the request was sent plus what the server says it waited before the hand-out: both
// are before the server began to count, so that the lease ends here before it ends there.
func newLease(sent time.Time, waited time.Duration, terms leaseTerms, cut context.Context) *lease {
	deadline := sent.Add(waited + terms.ackWait - terms.margin)
	return &lease{deadline: deadline, near: deadline.Add(-terms.margin), cut: cut}
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

// leases are kept by deadline, earliest first.
type leases []*lease

func (ls *leases) add(l *lease) {
	i, _ := slices.BinarySearchFunc(*ls, l.deadline, func(x *lease, t time.Time) int { return x.deadline.Compare(t) })
	*ls = slices.Insert(*ls, i, l)
}
