package sequin

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/lease"
)

// deliveryBuffer holds the deliveries that were received and that the program has not read.
//
// A read from a channel cannot check a lease. After a pause of the process, for instance a SIGSTOP, a program could read many
// deliveries whose leases are over before another goroutine runs. The channel therefore holds one delivery, and the others
// are in a queue. A delivery whose lease is not over moves to the channel when the program settles what it has read, which
// costs no switch of goroutines.
//
// A program may read several deliveries before it settles one. The loop then moves the others: it checks the channel every
// millisecond while the program reads. If a check finds the channel empty and the program waiting, or two in a row find it empty and
// nothing was settled in between, the loop opens the channel: it fills it, and waits for room to send the next delivery. After 10 ms
// the loop looks again. If the program has settled as many deliveries as it has read since, further ones stay in the queue. If it has
// read none, those in the channel are taken back, too: not before, because a program that reads at that moment would get a later
// delivery before those that are taken out. A channel that had to be opened again soon stays open for longer.
//
// For handlers the channel is always open, because they check the lease of each delivery. They settle each, or offer to
// themselves what is next, so that the loop need not wait for room.
type deliveryBuffer struct {
	channel chan Delivery // its size is channelSize, or MaxInFlight if that is less
	wake    func()        // makes the loop check the buffer
	queued  atomic.Int64  // the length of the queue
	idle    atomic.Bool   // the loop checks the buffer less often than every millisecond

	mu     sync.Mutex   // guards all up to open, and every send on the channel; held for copying only
	queue  []Delivery   // the deliveries of an answer; those that have not left begin at index first
	first  int          // less than len(queue), unless nothing is queued
	later  [][]Delivery // those of the answers after it
	behind int          // how many later holds
	spares [][]Delivery // empty slices, of answers whose deliveries have left
	small  int          // how many answers in a row did not need half of their slice
	open   bool         // the channel may be full
	// offered is the state of the first delivery of the queue while the loop waits for room in the channel to send it. Nobody else
	// sends meanwhile. The delivery may have been sent already, and the loop has not run since.
	offered *deliveryState

	// Only the loop uses these.
	added   bool          // deliveries were added, and not offered yet
	empty   bool          // the last check found the channel empty and deliveries in the queue
	settles uint64        // how many settles the program had made at the last check
	opened  mark          // when the channel was opened, or when the loop last looked; zero once it holds one delivery again
	openFor time.Duration // after which the loop decides again
	closed  time.Time     // when the channel last held one delivery again
}

// mark is how many deliveries a program had read and settled at a time.
type mark struct {
	at            time.Time
	read, settles uint64
}

// The channel stays open for minOpen, and longer when it was opened again soon, up to maxOpen, until the loop decides again. minOpen is
// long compared with the millisecond between two checks. A program that reads in groups has often settled all when the loop looks, and
// then waits for up to two milliseconds. With maxOpen that costs less than a hundredth of its time.
const (
	minOpen = 10 * time.Millisecond
	maxOpen = 640 * time.Millisecond
)

// channelSize is how many deliveries an open channel holds. With 16 a program reads 2.9 million a second before it settles them,
// with 64 no more. 16 take 3 KB.
const channelSize = 16

// smallInARow is how many answers may leave half of their slice unused before smaller ones are made. A slice of 1,000 deliveries
// takes 170 KB, which a Subscriber with little to do should not keep. A busy one that has caught up gets some small answers.
const smallInARow = 8

// len returns how many deliveries the program has not read.
func (b *deliveryBuffer) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.channel) + b.queuedLocked()
}

func (b *deliveryBuffer) queuedLocked() int { return len(b.queue) - b.first + b.behind }

// add adds deliveries to the queue, at least one. There is room for them, because every delivery in the buffer is in flight. The
// buffer keeps the slice: to copy each delivery, and to clear it there, would cost more than all else that the loop does with it.
func (b *deliveryBuffer) add(ds []Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(ds) < cap(ds)/2 { // a small answer in the slice of a large one
		ds = b.cloneSmallLocked(ds)
	} else {
		b.small = 0
	}
	b.added = true
	b.later, b.behind = append(b.later, ds), b.behind+len(ds)
	if b.first == len(b.queue) {
		b.nextLocked()
	}
	b.queued.Store(int64(b.queuedLocked()))
}

// cloneSmallLocked returns a copy of the deliveries of a small answer, and keeps their slice for a later one.
func (b *deliveryBuffer) cloneSmallLocked(ds []Delivery) []Delivery {
	few := slices.Clone(ds)
	b.reuseLocked(ds)
	if b.small++; b.small > smallInARow {
		b.spares = nil
	}
	return few
}

// nextLocked goes on to the next answer, after all deliveries of the queue have left.
func (b *deliveryBuffer) nextLocked() {
	b.reuseLocked(b.queue)
	b.queue, b.first = nil, 0
	if len(b.later) > 0 {
		b.queue, b.later[0] = b.later[0], nil
		b.later, b.behind = b.later[1:], b.behind-len(b.queue)
	}
}

// reuse keeps a slice for a later answer, and nothing that is in it.
func (b *deliveryBuffer) reuse(ds []Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reuseLocked(ds)
}

func (b *deliveryBuffer) reuseLocked(ds []Delivery) {
	if cap(ds) > 0 {
		clear(ds) // one clear for all costs less than one each, and keeps the messages in memory a little longer
		b.spares = append(b.spares, ds[:0])
	}
}

// spare returns an empty slice for an answer with about n deliveries, that of an earlier one if that is large enough. Only the given
// number of others are kept.
func (b *deliveryBuffer) spare(n, others int) (ds []Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last := len(b.spares) - 1; last >= 0 {
		ds, b.spares[last] = b.spares[last], nil
		b.spares = b.spares[:last]
	}
	b.spares = slices.Delete(b.spares, min(len(b.spares), others), len(b.spares))
	if cap(ds) < n {
		ds = make([]Delivery, 0, n)
	}
	return ds
}

// dropSpares frees the memory that is kept for later answers.
func (b *deliveryBuffer) dropSpares() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spares = nil
}

// drain removes and returns all deliveries, in order.
func (b *deliveryBuffer) drain() []Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := append(b.emptyChannelLocked(), b.queue[b.first:]...)
	for _, ds := range b.later {
		all = append(all, ds...)
	}
	b.queue, b.first, b.later, b.behind = nil, 0, nil, 0
	b.queued.Store(0)
	return all
}

func (b *deliveryBuffer) emptyChannelLocked() (all []Delivery) {
	for {
		select {
		case d := <-b.channel:
			all = append(all, d)
		default:
			return all
		}
	}
}

// offerLocked moves deliveries from the queue to the channel until the channel holds one, or all of them if it is open. A
// delivery that the program is waiting for does not stay in the channel. offerLocked reports false if it reached a delivery
// whose hand-over time has passed.
func (b *deliveryBuffer) offerLocked(now time.Time) bool {
	if b.offered != nil {
		return true
	}
	fresh := true
	for b.first < len(b.queue) && (len(b.channel) == 0 || b.open && len(b.channel) < cap(b.channel)) {
		d := &b.queue[b.first]
		if fresh = !lease.Past(now, d.state.fetched.lease.HandOverBy); !fresh {
			break
		}
		b.channel <- *d // nobody else sends, so that there is room
		b.popLocked()
	}
	b.queued.Store(int64(b.queuedLocked()))
	return fresh
}

// popLocked removes the first delivery of the queue.
func (b *deliveryBuffer) popLocked() {
	if b.first++; b.first == len(b.queue) {
		b.nextLocked()
	}
}

// next returns the delivery that the loop is to send when the channel has room, and the channel, which is nil while there is none.
// The loop calls sent when it has sent the delivery, and unsent when it no longer tries to. Handlers offer to themselves.
func (b *deliveryBuffer) next(now time.Time, handlers bool) (d Delivery, room chan<- Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if handlers || !b.open || !b.offerLocked(now) || b.first == len(b.queue) {
		return d, nil
	}
	d = b.queue[b.first]
	b.offered = d.state
	return d, b.channel
}

// sent removes the delivery that the loop has sent from the queue, unless take has done so.
func (b *deliveryBuffer) sent() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.offered != nil {
		b.offered = nil
		b.popLocked()
		b.queued.Store(int64(b.queuedLocked()))
	}
}

// unsent lets others send again.
func (b *deliveryBuffer) unsent() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offered = nil
}

// take appends the deliveries of the channel and of the queue to taken, until it holds limit. It leaves those in the queue whose
// hand-over time has passed. It reports whether the loop must check the buffer.
func (b *deliveryBuffer) take(now time.Time, taken []Delivery, limit int) (all []Delivery, check bool) {
	woken := b.wokenUp() // before the queue is empty: the loop may receive again
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(taken) < limit && len(b.channel) > 0 {
		select {
		case d := <-b.channel:
			taken = append(taken, d)
		default: // another goroutine was faster
		}
	}
	if b.offered != nil {
		if len(taken) == 0 || taken[len(taken)-1].state != b.offered {
			return taken, woken // another goroutine may get it from the channel, and what is behind it must not come first
		}
		b.offered = nil
		b.popLocked()
	}
	for len(taken) < limit && b.first < len(b.queue) && !lease.Past(now, b.queue[b.first].state.fetched.lease.HandOverBy) {
		taken = append(taken, b.queue[b.first])
		b.popLocked()
	}
	return taken, !b.offerLocked(now) || woken
}

// offer moves the next delivery to the channel if the channel is empty. It reports whether the loop must check the buffer.
func (b *deliveryBuffer) offer(now time.Time) (check bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.offerLocked(now)
}

// waits reports whether a delivery is in the queue and none in the channel.
func (b *deliveryBuffer) waits() bool { return b.queued.Load() > 0 && len(b.channel) == 0 }

// sleeps reports whether the loop checks the buffer only now and then, although it holds deliveries.
func (b *deliveryBuffer) sleeps() bool { return b.idle.Load() && b.queued.Load() > 0 }

// wokenUp reports, once, that the program is active again meanwhile.
func (b *deliveryBuffer) wokenUp() bool { return b.sleeps() && b.idle.Swap(false) }

// offerToReader is offer for an empty channel. It reports whether the program was waiting for a delivery: then it has read several
// before it settles them.
func (b *deliveryBuffer) offerToReader(now time.Time) (waited bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	queued := b.queuedLocked()
	b.offerLocked(now)
	return queued-b.queuedLocked() > len(b.channel)
}

// setOpen opens the channel for all deliveries, or keeps further ones in the queue. What is in the channel stays there.
func (b *deliveryBuffer) setOpen(now time.Time, open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = open
	b.offerLocked(now)
}

// takeBack closes the channel, and moves all but one delivery back to the queue.
func (b *deliveryBuffer) takeBack(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = false
	if len(b.channel) > 1 {
		b.queue, b.first = append(b.emptyChannelLocked(), b.queue[b.first:]...), 0
	}
	b.offerLocked(now)
}

// offerAdded moves deliveries that were added to the channel. The loop calls it last, by check: a goroutine that is woken runs before
// those that were made ready earlier, so that a program that waits for a delivery gets it before the next receive is sent.
func (b *deliveryBuffer) offerAdded(now time.Time) {
	if b.added {
		b.added = false
		b.offer(now)
	}
}

// check moves deliveries to the channel, and opens or closes it. The loop calls check while the buffer holds deliveries.
// read is how many deliveries have left the buffer, and settles is how many settles the program has made.
func (b *deliveryBuffer) check(now time.Time, read, settles uint64, handlers bool) {
	b.offerAdded(now)
	again := b.empty && settles == b.settles
	b.empty, b.settles = b.waits(), settles
	ahead := b.empty && (again || b.offerToReader(now))
	switch m := b.opened; {
	case m.at.IsZero() && (handlers || ahead):
		if b.openFor = min(2*b.openFor, maxOpen); now.Sub(b.closed) > b.openFor {
			b.openFor = minOpen
		}
		b.opened = mark{now, read, settles}
		b.setOpen(now, true)
	case m.at.IsZero():
	case handlers:
		b.offer(now)
	case !b.open && len(b.channel) <= 1: // the program has read what was left
		b.opened, b.closed = mark{}, now
		b.offer(now)
	case now.Sub(m.at) < b.openFor:
		b.offer(now)
	case read == m.read:
		b.opened = mark{}
		b.takeBack(now)
	default:
		b.opened = mark{now, read, settles}
		b.setOpen(now, read-m.read > settles-m.settles)
	}
}

// pause returns how long the loop may wait until the next check. otherwise is how long it would wait without the buffer.
func (b *deliveryBuffer) pause(otherwise time.Duration) time.Duration {
	if b.queued.Load() == 0 && b.opened.at.IsZero() {
		return otherwise
	}
	b.idle.Store(otherwise > time.Millisecond)
	return min(otherwise, minOpen)
}

// offerNext moves the next delivery to the channel. It is called when the program settles a delivery or calls Deliveries,
// because the program may read the next delivery then.
func (b *deliveryBuffer) offerNext(now time.Time) {
	check := b.wokenUp()
	if b.waits() {
		check = b.offer(now) || check
	}
	if check {
		b.wake()
	}
}

// refill moves deliveries to the channel if it is empty. A handler's goroutine calls it before it reads: what it has read is
// perhaps not settled yet, for instance because its messages are still being sent.
func (b *deliveryBuffer) refill() {
	if b.waits() {
		b.offerNext(time.Now())
	}
}

// deliveryMode is who gets the deliveries of a Subscriber.
type deliveryMode struct{ is atomic.Int32 }

const (
	modeNone     int32 = iota
	modeChannel        // the program ranges over Deliveries
	modeHandlers       // Handle, HandleBatch or Pipe
)

// set sets the mode, if none is set yet, and reports whether mode is the one that is set. It reports false for a second
// modeHandlers, because only one call may handle the deliveries.
func (m *deliveryMode) set(mode int32) bool {
	return m.is.CompareAndSwap(modeNone, mode) || mode == modeChannel && m.is.Load() == mode
}

// handlers reports whether handlers get the deliveries.
func (m *deliveryMode) handlers() bool { return m.is.Load() == modeHandlers }
