package sequin

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/sequin-go/sequin/internal/lease"
)

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
