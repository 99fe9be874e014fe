package sequin

import (
	"cmp"
	"context"
	"fmt"
	"iter"
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
// millisecond while the program reads. If two checks in a row find the channel empty, and nothing was settled in between,
// the loop opens the channel: deliveries move to it while it has room, again each refillEvery. Each openFor, the loop looks
// again. If the program has settled as many deliveries as it has read since, further ones stay in the queue. If it has read
// none, those in the channel are taken back, too: not before, because a program that reads at that moment would get a later
// delivery before those that are taken out. For handlers the channel is always open, because they check the lease of each
// delivery.
type deliveryBuffer struct {
	channel chan Delivery // its size is channelSize, or MaxInFlight if that is less
	queued  atomic.Int64  // the length of the queue
	idle    atomic.Bool   // the loop checks the buffer less often than every millisecond

	mu    sync.Mutex // guards queue, first and open, and every send on the channel; held for copying only
	queue []Delivery // its deliveries begin at index first
	first int
	open  bool // the channel may hold all deliveries

	// Only the loop uses these.
	empty   bool   // the last check found the channel empty and deliveries in the queue
	settles uint64 // how many settles the program had made at the last check
	opened  mark   // when the channel was opened, or when the loop last looked; zero once it holds one delivery again
}

// mark is how many deliveries a program had read and settled at a time.
type mark struct {
	at            time.Time
	read, settles uint64
}

// openFor is how long the channel stays open until the loop decides again. It is long compared with the millisecond between
// two checks, and short compared with any lease.
const openFor = 10 * time.Millisecond

// channelSize is how many deliveries an open channel holds. With refillEvery it lets a program read 640,000 deliveries a
// second before it settles one, and takes 20 KB.
const channelSize = 128

// refillEvery is how often the loop refills an open channel that the program empties.
const refillEvery = 200 * time.Microsecond

// len returns how many deliveries the program has not read.
func (b *deliveryBuffer) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.channel) + len(b.queue) - b.first
}

// add adds deliveries. There is room for them, because every delivery in the buffer is in flight.
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

// offerLocked moves deliveries from the queue to the channel until the channel holds one, or all of them if it is open. A
// delivery that the program is waiting for does not stay in the channel. offerLocked reports false if it reached a delivery
// whose hand-over time has passed.
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
			return true // an open channel that is full
		}
		b.first++
	}
	if b.first == len(b.queue) && b.first > 0 {
		clear(b.queue) // one clear for all costs less than one each, and keeps the messages in memory a little longer
		b.queue, b.first = b.queue[:0], 0
	}
	b.queued.Store(int64(len(b.queue) - b.first))
	return fresh
}

// take appends the deliveries of the channel and of the queue to taken, until it holds limit. It leaves those in the queue whose
// hand-over time has passed. It reports whether the loop must check the buffer.
func (b *deliveryBuffer) take(now time.Time, taken []Delivery, limit int) (all []Delivery, check bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(taken) < limit && len(b.channel) > 0 {
		select {
		case d := <-b.channel:
			taken = append(taken, d)
		default: // another goroutine was faster
		}
	}
	for len(taken) < limit && b.first < len(b.queue) && !lease.Past(now, b.queue[b.first].state.fetched.lease.HandOverBy) {
		taken = append(taken, b.queue[b.first])
		b.first++
	}
	return taken, !b.offerLocked(now)
}

// offer moves the next delivery to the channel if the channel is empty. It reports whether the loop must check the buffer.
func (b *deliveryBuffer) offer(now time.Time) (check bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.offerLocked(now)
}

// waits reports whether a delivery is in the queue and none in the channel.
func (b *deliveryBuffer) waits() bool { return b.queued.Load() > 0 && len(b.channel) == 0 }

// wokenUp reports, once, that the program is active again while the loop checks the buffer only now and then.
func (b *deliveryBuffer) wokenUp() bool {
	return b.idle.Load() && b.queued.Load() > 0 && b.idle.Swap(false)
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

// check moves deliveries to the channel, and opens or closes it. The loop calls check while the buffer holds deliveries.
// read is how many deliveries have left the buffer, and settles is how many settles the program has made.
func (b *deliveryBuffer) check(now time.Time, read, settles uint64, handlers bool) {
	again := b.empty && settles == b.settles
	b.empty, b.settles = b.waits(), settles
	switch m := b.opened; {
	case m.at.IsZero() && (handlers || b.empty && again):
		b.opened = mark{now, read, settles}
		b.setOpen(now, true)
	case m.at.IsZero() && b.empty:
		b.offer(now)
	case m.at.IsZero():
	case handlers:
		b.offer(now)
	case !b.open && len(b.channel) <= 1: // the program has read what was left
		b.opened = mark{}
		b.offer(now)
	case now.Sub(m.at) < openFor:
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
	if !b.opened.at.IsZero() && len(b.channel) < cap(b.channel)/2 && b.queued.Load() > 0 {
		otherwise = min(otherwise, refillEvery)
	}
	b.idle.Store(otherwise > time.Millisecond)
	return min(otherwise, openFor)
}

// The modes of a Subscriber: who gets its deliveries.
const (
	modeNone     int32 = iota
	modeChannel        // the program ranges over Deliveries
	modeHandlers       // Handle, HandleBatch or Pipe
)

// setMode sets the mode, if none is set yet, and reports whether mode is the one that is set. It reports false for a second
// modeHandlers, because only one call may handle the deliveries.
func (s *Subscriber) setMode(mode int32) bool {
	return s.mode.CompareAndSwap(modeNone, mode) || mode == modeChannel && s.mode.Load() == mode
}

// noDeliveries is the channel of a Subscriber whose deliveries go to handlers.
var noDeliveries = func() <-chan Delivery { c := make(chan Delivery); close(c); return c }()

// Deliveries returns the channel of deliveries, the same one at every call. The channel is closed when the Subscriber stops;
// Err then returns the reason. Any number of goroutines may range over the channel.
//
// Versions of one key come in order. With SubscriberConfig.Pollers 1, different keys come in order too, while no message is
// redelivered. With SubscriberConfig.Ordered they always do.
//
// The channel is buffered, but its len is not the number of buffered deliveries. Most of them wait in a queue, where their
// leases are checked, until the program settles what it has read.
//
// A Subscriber's deliveries go either to this channel or to handlers. After Handle, HandleBatch or Pipe, Deliveries
// returns a closed channel; after Deliveries, these return ErrBusy.
func (s *Subscriber) Deliveries() <-chan Delivery {
	if !s.setMode(modeChannel) {
		return noDeliveries
	}
	if s.buffer.waits() || s.buffer.wokenUp() {
		s.offer(time.Now())
	}
	return s.deliveries
}

// Take returns up to limit deliveries at once. It waits until there is one, and does not wait for more. The error is that of
// ctx, that of Err when the Subscriber has stopped, or ErrClosed after Close. Deliveries whose leases are over, after a pause
// of the process, are not returned. limit is at least 1; no more than MaxInFlight deliveries are there at once.
//
// Take may be used beside the channel of Deliveries, and by several goroutines. It returns ErrBusy when handlers get the
// deliveries.
func (s *Subscriber) Take(ctx context.Context, limit int) ([]Delivery, error) {
	if limit < 1 {
		return nil, fmt.Errorf("%w: Take of %d deliveries", ErrInvalidArgument, limit)
	}
	if !s.setMode(modeChannel) {
		return nil, ErrBusy
	}
	for ctx.Err() == nil {
		select {
		case d, open := <-s.Deliveries():
			if !open {
				return nil, cmp.Or(s.Err(), ErrClosed)
			}
			if taken := s.take(d, limit); len(taken) > 0 {
				return taken, nil
			}
		case <-ctx.Done():
		}
	}
	return nil, contextError(ctx)
}

// All returns an iterator over the deliveries, for a range loop that also ends when ctx does:
//
//	for d, err := range sub.All(ctx) {
//		if err != nil {
//			return err // no delivery comes any more
//		}
//		…
//	}
//
// The deliveries are those of the channel of Deliveries, without those whose leases are over after a pause of the process. An
// error comes last, with the zero Delivery: that of ctx, that of Err when the Subscriber has stopped because of it, or ErrBusy
// when handlers get the deliveries. After Close, and after the end of the ctx of Subscribe, the loop ends without an error.
//
// The end of the loop does not stop the Subscriber. Several goroutines may iterate at once, beside the channel and Take.
func (s *Subscriber) All(ctx context.Context) iter.Seq2[Delivery, error] {
	return func(yield func(Delivery, error) bool) {
		if !s.setMode(modeChannel) {
			yield(Delivery{}, ErrBusy)
			return
		}
		for ctx.Err() == nil {
			select {
			case d, open := <-s.Deliveries():
				switch {
				case !open:
					if err := s.Err(); err != nil {
						yield(Delivery{}, err)
					}
					return
				case lease.Past(time.Now(), d.Deadline):
					s.returnFromHandler(d)
				case !yield(d, nil):
					return
				}
			case <-ctx.Done():
			}
		}
		yield(Delivery{}, contextError(ctx))
	}
}

// take returns d, which was read from the channel, and what else is in the buffer, without deliveries whose leases are over.
func (s *Subscriber) take(d Delivery, limit int) []Delivery {
	now := time.Now()
	taken, check := s.buffer.take(now, []Delivery{d}, limit)
	if check || s.buffer.wokenUp() {
		s.wake()
	}
	return slices.DeleteFunc(taken, func(d Delivery) bool {
		past := lease.Past(now, d.Deadline)
		if past {
			s.returnFromHandler(d)
		}
		return past
	})
}

// offer moves the next delivery to the channel. It is called when the program settles a delivery or calls Deliveries,
// because the program may read the next delivery then.
func (s *Subscriber) offer(now time.Time) {
	check := s.buffer.wokenUp()
	if s.buffer.waits() {
		check = s.buffer.offer(now) || check
	}
	if check {
		s.wake()
	}
}
