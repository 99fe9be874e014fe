package sequin

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/lease"
)

// deliveryBuffer holds the deliveries that were received and that the program has not read.
//
// Nothing can be checked when a program reads from a channel: after a pause of the process, for instance a SIGSTOP, it
// could read any number of deliveries whose leases are over before another goroutine runs. So there is one delivery in the
// channel, and the others are in a queue. They move to the channel, if their leases are not over, when the program settles
// what it has read, which costs no switch of goroutines.
//
// A program that reads several deliveries before it settles one gets the others from the loop, which looks at the channel
// every millisecond while the program reads. If two looks in a row find the channel empty, and nothing was settled meanwhile,
// everything moves to the channel, until the program has settled as many as it has read, for openFor. Handlers get everything
// too: they check the lease of what they read.
type deliveryBuffer struct {
	channel chan Delivery // has room for all: MaxInFlight
	queued  atomic.Int64  // the length of the queue
	idle    atomic.Bool   // the loop does not look every millisecond

	mu    sync.Mutex // guards all below, and every send on the channel; held for copying only
	queue []Delivery // from first on
	first int
	open  bool // everything may be in the channel

	// The loop's own.
	empty   bool   // the last look found the channel empty, and others waiting
	settles uint64 // how many settles the program had made by then
	opened  mark   // when the channel was opened, or openFor later
}

// mark is how much a program had read and settled at a time.
type mark struct {
	at             time.Time
	taken, settles uint64
}

// openFor is after how long it is decided again whether everything is to be in the channel. It is long compared with the
// millisecond between two looks, and short compared with any lease.
const openFor = 10 * time.Millisecond

// len returns how many deliveries the program has not read.
func (b *deliveryBuffer) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.channel) + len(b.queue) - b.first
}

// add adds deliveries. There is room, because whatever is in the buffer is in flight.
func (b *deliveryBuffer) add(now time.Time, ds []Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first > 0 && len(b.queue)+len(ds) > cap(b.queue) {
		n := copy(b.queue, b.queue[b.first:])
		clear(b.queue[n:])
		b.queue, b.first = b.queue[:n], 0
	}
	b.queue = append(b.queue, ds...)
	b.offerLocked(now)
}

// drain removes and returns all deliveries, in order.
func (b *deliveryBuffer) drain() []Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.emptyChannelLocked()
	all = append(all, b.queue[b.first:]...)
	clear(b.queue)
	b.queue, b.first = b.queue[:0], 0
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

// offerLocked moves deliveries from the queue to the channel until there is one, or all of them if the channel is open.
// Those that the program waits for do not stay in the channel. It reports false if it met one that must not be delivered any
// more.
func (b *deliveryBuffer) offerLocked(now time.Time) bool {
	fresh := true
	for b.first < len(b.queue) && (b.open || len(b.channel) == 0) {
		d := &b.queue[b.first]
		if fresh = !lease.Past(now, d.state.fetched.lease.HandOverBy); !fresh {
			break
		}
		select {
		case b.channel <- *d:
		default:
			return true // never, as long as no more is in the buffer than may be in flight
		}
		b.first++
	}
	if b.first == len(b.queue) && b.first > 0 {
		clear(b.queue) // all at once: the messages stay in memory a little longer, and each costs less
		b.queue, b.first = b.queue[:0], 0
	}
	b.queued.Store(int64(len(b.queue) - b.first))
	return fresh
}

// offer moves the next delivery to the channel if that is empty, for a program that is about to read it. It reports
// whether the loop is to look at the buffer.
func (b *deliveryBuffer) offer(now time.Time) (look bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.offerLocked(now)
}

// waits reports whether a delivery is in the queue and none in the channel.
func (b *deliveryBuffer) waits() bool { return b.queued.Load() > 0 && len(b.channel) == 0 }

// wokenUp reports whether the program is active again while the loop looks at the buffer only now and then.
func (b *deliveryBuffer) wokenUp() bool {
	return b.idle.Load() && b.queued.Load() > 0 && b.idle.Swap(false)
}

// setOpen opens the channel for everything, or takes back all but one delivery.
func (b *deliveryBuffer) setOpen(now time.Time, open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = open
	if !open && len(b.channel) > 1 {
		b.queue, b.first = append(b.emptyChannelLocked(), b.queue[b.first:]...), 0
	}
	b.offerLocked(now)
}

// look is called by the loop, again and again while something is in the buffer. taken is how many deliveries have left it,
// and settles how many settles the program has made.
func (b *deliveryBuffer) look(now time.Time, taken, settles uint64, handlers bool) {
	again := b.empty && settles == b.settles
	b.empty, b.settles = b.waits(), settles
	switch m := b.opened; {
	case m.at.IsZero() && (handlers || b.empty && again):
		b.opened = mark{now, taken, settles}
		b.setOpen(now, true)
	case m.at.IsZero() && b.empty:
		b.offer(now)
	case m.at.IsZero(), handlers, now.Sub(m.at) < openFor:
	case taken-m.taken > settles-m.settles:
		b.opened = mark{now, taken, settles}
	default:
		b.opened = mark{}
		b.setOpen(now, false)
	}
}

// pause returns how long the loop may wait for the next look, given how long it would wait otherwise.
func (b *deliveryBuffer) pause(otherwise time.Duration) time.Duration {
	if b.queued.Load() == 0 && b.opened.at.IsZero() {
		return otherwise
	}
	b.idle.Store(otherwise > time.Millisecond)
	return min(otherwise, openFor)
}
