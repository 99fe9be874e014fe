package sequin

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/lease"
)

// settling is an ack or a nack that is being sent. Acks and nacks are batched by the same engine as messages. A settling is
// copied from queue to batch, and therefore holds only the fields of its delivery that it needs.
type settling struct {
	ackID       string
	state       *deliveryState
	delivery    *Delivery     // for OnAckError; nil without OnAckError
	sync        *syncAck      // nil unless AckSync waits for the result
	after       time.Duration // how long after the beginning of its first lease the message is available again; 0 at once
	undelivered bool          // the program did not see the message
	uncounted   bool          // the server does not count the delivery: nobody has handled it
	unsure      bool          // an earlier attempt may have been carried out
}

// The engine's types, for settles.
type (
	settleEntry  = batch.Entry[settling]
	settleBatch  = batch.Batch[settling, struct{}]
	settleResult = batch.Result[settling, struct{}]
)

// settleSlots is how many requests with acks, and as many with nacks, may be in flight. With two, a request that hangs or is
// repeated does not hold up the others. More may be, up to maxSettles, while each is full: on a long link two of them
// would bound the rate.
const settleSlots = 2

// syncAck is an AckSync that waits. Its result and the end of its ctx may come at the same time. Whoever claims it first
// decides who reports the result: AckSync, or OnAckError as for any other ack.
type syncAck struct {
	claimed atomic.Bool
	result  chan error
}

// claim reports whether the caller is the first to claim a.
func (a *syncAck) claim() bool { return a != nil && a.claimed.CompareAndSwap(false, true) }

// settleCost is the size of an ack id in a request. A request has at most 1,000 ids, far below any limit of bytes.
const settleCost = len(`"00000000-0000-0000-0000-000000000000",`)

// entry returns the engine's entry of the settle. No ID: any two settles may share a batch or overtake each other.
func (x settling) entry() *settleEntry { return &settleEntry{Item: x, Size: settleCost} }

// compare puts the earliest deadline first. The engine uses it only when more than one batch is queued.
func (x settling) compare(o settling) int {
	return x.state.Lease().Deadline.Compare(o.state.Lease().Deadline)
}

// urgent reports whether the settle could miss its deadline if it waited for more settles or for the end of a backoff.
func (x *settling) urgent(now time.Time) bool {
	l := x.state.Lease()
	return l.Deadline.Sub(now) <= max(batch.MaxHold, l.Margin/2)
}

// remaining returns how long the message is still to be kept back.
func (x *settling) remaining(now time.Time) time.Duration {
	if x.after == 0 {
		return 0
	}
	return max(0, x.state.fetched.lease.Began.Add(x.after).Sub(now))
}

// splitExpired splits settles into those that may still be sent and those whose leases are over. Both keep their order.
func splitExpired(items []settleEntry, now time.Time) (valid, expired []settleEntry) {
	var l *lease.Lease // that of the previous settle: settles of one lease often follow each other
	over := false
	isExpired := func(e *settleEntry) bool {
		if of := e.Item.state.Lease(); of != l {
			l, over = of, lease.Past(now, of.Deadline)
		}
		return over
	}
	return batch.Partition(items, isExpired)
}

// failedSettles counts the acks and nacks that failed and that Flush has not reported.
type failedSettles struct {
	mu    sync.Mutex // guards all below; taken when settles have failed
	count int
	first error
}

func (f *failedSettles) add(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == 0 {
		f.first = err
	}
	f.count += n
}

// collect returns what has failed since the last call, nil for nothing.
func (f *failedSettles) collect() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, first := f.count, f.first
	f.count, f.first = 0, nil
	if n == 0 {
		return nil
	}
	return fmt.Errorf("sequin: %d acks and nacks failed, the first: %w", n, first)
}

// endWork ends the contexts of deliveries whose settles have ended.
func endWork(items []settleEntry) {
	for i := range items {
		if h := items[i].Item.state.held.Load(); h != nil {
			h.EndWork(nil)
		}
	}
}

// The wait of settles for their next attempt is at most maxSettleWait, half of the longest default margin, and at least minSettleWait:
// while messages become due one after the other a Subscriber makes ten requests a second in an outage, and not a hundred.
const (
	minSettleWait = 100 * time.Millisecond
	maxSettleWait = time.Second
)

// longestSettleWait returns how long settles may wait for their next attempt: half of what is left of the first lease to end, so that
// a server that comes back gets them in time.
func longestSettleWait(items []settleEntry, now time.Time) time.Duration {
	wait := maxSettleWait
	for i := range items {
		wait = min(wait, items[i].Item.state.Lease().Deadline.Sub(now)/2)
	}
	return max(wait, minSettleWait)
}
