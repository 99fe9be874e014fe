// Package backlog holds what one consumer has not settled of a stream whose messages are elsewhere: on disk, or in a
// database.
//
// A Backlog has read the stream up to Next. Of what it has read it keeps only the messages that are not settled: for each
// key one head, which is on lease, delayed, or ready to be delivered, and the seqs of the later messages of the key, which wait for
// it (they are met). Every other message below Next is done. A message that is not read costs nothing.
//
// A Backlog makes no decision of its own and does no I/O: it has no clock and no random source. A caller looks at it to
// plan an operation, writes the plan down as a record, and applies the record. A replay of the records makes the same
// Backlog. It keeps no keys, but 128-bit hashes of them.
//
// A Backlog has no lock. Its stream's lock guards it.
package backlog

import (
	"container/heap"
	"slices"
)

// MaxMet is how many met messages a consumer keeps. Of a key that has more it keeps the seq of the first that it left out,
// and reads the stream again from there. At 8 bytes each it bounds them to 1 MB.
const MaxMet = 100_000

// Hash is the hash of a key.
type Hash [16]byte

// Limits are the limits of a consumer. MaxDeliver 0 means no limit.
type Limits struct {
	AckWait       int64 // nanoseconds
	MaxAckPending int
	MaxDeliver    int
}

// Stream is what a Backlog asks its stream.
type Stream interface {
	// Alive reports whether a message that the backlog has read is still in the stream.
	Alive(seq int64) bool
}

// Backlog is what a consumer has not settled. The zero value is not usable.
type Backlog struct {
	stream Stream
	limits Limits

	next   int64              // seq of the first message that is not read
	lease  Lease              // of the last receive
	heads  map[Hash]*item     // the oldest unsettled message of each key
	bySeq  map[int64]*item    // the same, without those that seek
	ready  readyHeap          // heads that can be delivered
	out    leaseHeap          // heads on lease, and delayed ones
	met    int                // later messages of all heads
	sought int                // heads that seek
	left   int                // heads whose keys have left messages out
	ahead  map[int64]struct{} // settled by an id of an earlier opening before they were read again
	above  int64              // no head has a lower seq; what Trimmed has seen
	known  int64              // the last seq of the stream when the store was opened
	blind  bool               // records are missing: see Lost

	newestOnly bool // see KeepNewest
}

// New returns the backlog of a consumer that has read nothing. Messages have seqs from 1.
func New(s Stream, l Limits) *Backlog {
	return &Backlog{
		stream: s, limits: l, next: 1,
		heads: map[Hash]*item{}, bySeq: map[int64]*item{}, ahead: map[int64]struct{}{},
	}
}

// StartAt makes a backlog that has read nothing start at a seq. The messages below are done.
func (b *Backlog) StartAt(seq int64) { b.next = seq }

// KeepNewest says that a message that is read has replaced every earlier one of its key, so that of the met messages of a
// key only the last is kept. It is for a stream that cannot say at once which of its messages are alive.
func (b *Backlog) KeepNewest() { b.newestOnly = true }

// Head returns the head of a key. onLease is false for one that is ready or delayed.
func (b *Backlog) Head(key Hash) (seq int64, onLease, ok bool) {
	it := b.heads[key]
	if it == nil || it.seq == 0 {
		return 0, false, false
	}
	return it.seq, it.leased && !it.delayed, true
}

// Heads calls f with the head of every key, in no order. Its state is Available, Delivered or Delayed.
func (b *Backlog) Heads(f func(seq int64, s State)) {
	for seq, it := range b.bySeq {
		f(seq, it.view().State)
	}
}

// Next returns the seq of the first message that the consumer has not read.
func (b *Backlog) Next() int64 { return b.next }

// Limits returns the limits.
func (b *Backlog) Limits() Limits { return b.limits }

// Room returns how many more messages may be on lease.
func (b *Backlog) Room() int { return max(0, b.limits.MaxAckPending-len(b.out)) }

// Ready returns how many messages that were read before can be delivered.
func (b *Backlog) Ready() int { return len(b.ready) }

// TopReady appends the seqs of the first n ready messages to dst, lowest first.
func (b *Backlog) TopReady(n int, dst []int64) []int64 {
	if n <= 0 || len(b.ready) == 0 {
		return dst
	}
	// The candidates are a heap of indexes into ready. Below each that is taken are two more.
	candidates := topHeap{b.ready, []int{0}}
	for ; n > 0 && len(candidates.indexes) > 0; n-- {
		i := heap.Pop(&candidates).(int)
		dst = append(dst, b.ready[i].seq)
		for child := 2*i + 1; child <= 2*i+2 && child < len(b.ready); child++ {
			heap.Push(&candidates, child)
		}
	}
	return dst
}

// Met returns how many met messages the backlog keeps.
func (b *Backlog) Met() int { return b.met }

// Unsettled returns how many keys have a message that was read and is not settled.
func (b *Backlog) Unsettled() int { return len(b.heads) }

// SettledAhead reports whether an unread message is settled already.
func (b *Backlog) SettledAhead(seq int64) bool {
	_, ok := b.ahead[seq]
	return ok
}

// NextExpiry returns when the next lease or delay ends; ok is false when none is out.
func (b *Backlog) NextExpiry() (at int64, ok bool) {
	if len(b.out) == 0 {
		return 0, false
	}
	return b.out[0].until, true
}

// Key says what a message that is read next would be.
type Key uint8

const (
	Fresh   Key = iota // its key has no head: it can be delivered
	Waits              // it is met
	LeftOut            // its key has left out an earlier message: it needs no record
	Settled            // it is done
)

// Of returns what the next message of a key would be.
func (b *Backlog) Of(key Hash) Key {
	it := b.heads[key]
	switch {
	case it == nil:
		return Fresh
	case it.more != 0:
		return LeftOut
	}
	return Waits
}

// Opened applies the opening of a store: the stream has messages up to last, and now is the time. A lease ends when its
// record says, but never later than its length from now on, so that a clock that was set back lengthens none.
func (b *Backlog) Opened(last, now int64) {
	b.known, b.blind = last, false
	for _, it := range b.out {
		it.until = min(it.until, now+it.length)
	}
	b.out.init()
}

// Lost says that records are missing here in the log. Up to the next Opened the backlog then reads no message, whatever a
// receive says: a message whose receive or ack is missing comes again, and none is left out. It notes acks of unread messages.
func (b *Backlog) Lost() { b.blind = true }

// SetLimits replaces the limits. Ready messages that have had as many deliveries as a lowered MaxDeliver allows are done.
// Those on lease and delayed ones are checked when the lease or the delay ends.
func (b *Backlog) SetLimits(l Limits) {
	b.limits = l
	for _, it := range slices.Clone(b.ready) {
		if b.exhausted(it) {
			b.ready.remove(it)
			b.advance(it)
		}
	}
}

func (b *Backlog) exhausted(it *item) bool {
	return b.limits.MaxDeliver > 0 && it.count >= b.limits.MaxDeliver
}

// Expire ends the leases and delays that have ended by now.
func (b *Backlog) Expire(now int64) {
	for len(b.out) > 0 && b.out[0].until <= now {
		if it := b.out[0]; !it.delayed && !it.extended {
			it.expired++
		}
		b.endLease(b.out[0], false, now, 0)
	}
}

// endLease ends a lease, or a delay. The message is ready again, after the delay if there is one, or done: because it is
// settled, gone, or out of deliveries.
func (b *Backlog) endLease(it *item, done bool, now, delay int64) {
	b.out.remove(it)
	switch {
	case done || !b.stream.Alive(it.seq) || b.exhausted(it):
		b.advance(it)
	case delay > 0:
		it.delayed, it.length, it.until = true, delay, now+delay
		b.out.push(it)
	default:
		b.ready.push(it)
	}
}

// advance removes the head's message, which is in no heap. The next living message of the key takes its place. If there is
// none and none was left out, the head is removed.
func (b *Backlog) advance(it *item) {
	delete(b.bySeq, it.seq)
	for len(it.later) > 0 {
		seq := it.later[0]
		it.later = it.later[1:]
		b.met--
		if !b.stream.Alive(seq) {
			continue
		}
		b.become(it, seq)
		b.ready.push(it)
		return
	}
	if it.more != 0 {
		it.later = nil
		it.seq = 0
		b.sought++
		return
	}
	delete(b.heads, it.key)
}

// become makes a message the head of its key.
func (b *Backlog) become(it *item, seq int64) {
	it.seq, it.count, it.expired, it.lastAt, it.lease = seq, 0, 0, 0, Lease{}
	b.bySeq[seq] = it
	b.above = min(b.above, seq)
}

// Replaced handles a message that a newer one of its key has replaced. A message on lease withholds the newer one until the
// lease ends. A delayed one takes its delay with it.
func (b *Backlog) Replaced(seq int64) {
	it := b.bySeq[seq]
	switch {
	case it == nil:
	case it.delayed:
		b.endLease(it, true, 0, 0)
	case !it.leased:
		b.ready.remove(it)
		b.advance(it)
	}
}

// Dropped handles a message that retention or a purge has dropped. Its lease ends.
func (b *Backlog) Dropped(seq int64) {
	it := b.bySeq[seq]
	switch {
	case it == nil:
	case it.leased:
		b.endLease(it, true, 0, 0)
	default:
		b.ready.remove(it)
		b.advance(it)
	}
}

// Trimmed handles the drop of all messages below first.
func (b *Backlog) Trimmed(first int64) {
	if b.above >= first {
		return
	}
	from := b.above
	b.above = first
	b.Purged(from, first-1)
}

// Purged handles the removal of all messages from first to last.
func (b *Backlog) Purged(first, last int64) {
	if last-first < int64(len(b.bySeq)) {
		for seq := first; seq <= last; seq++ {
			b.Dropped(seq)
		}
		return
	}
	var gone []int64
	for seq := range b.bySeq {
		if seq >= first && seq <= last {
			gone = append(gone, seq)
		}
	}
	slices.Sort(gone)
	for _, seq := range gone {
		b.Dropped(seq)
	}
}
