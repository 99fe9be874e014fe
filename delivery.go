package sequin

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/lease"
)

// Delivery is a message handed to a program for a limited time, its lease. It is a small value, to be copied freely.
// Settle it once, by Ack or Nack, before Deadline; what is forgotten is delivered again.
//
// Its methods may be called from any goroutine. The zero Delivery is harmless: it settles to ErrNotDelivered.
type Delivery struct {
	Key  string
	Data string
	// Seq grows with every change of the stream: a later version of a key has a higher one.
	Seq                   int64
	InsertedAt, UpdatedAt time.Time
	// AckID is the server's name for the delivery. On the 2024 server a redelivery has the same one.
	AckID string
	// Deadline is when the lease ends for this program: early enough that a settle made before it reaches the server in time.
	Deadline time.Time
	// Attempt is how often this version has been delivered, this time included. 0 where the server does not tell.
	Attempt int
	// Acknowledger carries out Ack, Nack and their kin. A test may set a fake; a literal Delivery passes it every call.
	Acknowledger Acknowledger

	state *deliveryState
}

// Acknowledger settles deliveries. A Subscriber sets its own in each Delivery.
type Acknowledger interface {
	Settle(ctx context.Context, d Delivery, s Settlement) error
}

// SettlementKind is what becomes of a message.
type SettlementKind uint8

// The kinds of Settlement.
const (
	Ack  SettlementKind = iota + 1 // done: not delivered again
	Nack                           // not done: available again
)

// Settlement is what Ack, AckSync, Nack and NackAfter ask of an Acknowledger.
type Settlement struct {
	Kind SettlementKind
	// Delay holds a Nack back; 0 does not.
	Delay time.Duration
	// Sync waits for the server's answer.
	Sync bool
}

// Ack says that the message is done. It queues that, returns at once, and never blocks; acks travel in batches.
//
// Errors: ErrSettled, ErrLeaseExpired (then nothing is sent), ErrClosed, ErrNotDelivered. What happens to the request
// is told to SubscriberConfig.OnAckError, where it fails; AckSync waits for it.
func (d Delivery) Ack() error {
	return d.settle(context.Background(), Settlement{Kind: Ack})
}

// AckSync is Ack that waits until the server has confirmed it. Beside Ack's errors it returns what became of the request:
// ErrOutcomeUnknown when its answer was lost, an *APIError, ErrClosed when a stop was cut off before it could be sent. ctx
// bounds the waiting, not the ack: when it ends first its error is returned, and the ack goes on as Ack's would, with
// SubscriberConfig.OnAckError told where it fails.
func (d Delivery) AckSync(ctx context.Context) error {
	return d.settle(ctx, Settlement{Kind: Ack, Sync: true})
}

// Nack makes the message available again, to anybody, at once. It queues that, as Ack does, with the same errors.
func (d Delivery) Nack() error {
	return d.settle(context.Background(), Settlement{Kind: Nack})
}

// NackAfter is Nack after a delay, which is cut to what the lease allows: the API has no longer one. Until then the
// message stays in flight. At most half of MaxInFlight is held so: beyond that, what is due first is sent early. A
// Subscriber that stops sends it at once.
func (d Delivery) NackAfter(delay time.Duration) error {
	return d.settle(context.Background(), Settlement{Kind: Nack, Delay: max(0, delay)})
}

func (d Delivery) settle(ctx context.Context, s Settlement) error {
	if d.Acknowledger == nil {
		return ErrNotDelivered
	}
	return d.Acknowledger.Settle(ctx, d, s)
}

// Context ends at the Deadline, or when the Subscriber is cut off before its deliveries were settled. It is shared by
// the deliveries of one receive. A literal Delivery has one that ends at its Deadline, or never without one.
func (d Delivery) Context() context.Context {
	if d.state != nil {
		return d.state.lease.Load().Context()
	}
	if d.Deadline.IsZero() {
		return context.Background()
	}
	ctx, cancel := context.WithDeadline(context.Background(), d.Deadline)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// deliveryState is what the copies of a Delivery share. The Delivery points to it. A map by ack id would not do, because
// on the 2024 server an expired delivery and its redelivery have the same ack id.
type deliveryState struct {
	lease   atomic.Pointer[lease.Lease] // the current one
	fetched *fetched
	settled atomic.Bool
}

// statesPerBlock states share an allocation: a Delivery that a program keeps also keeps three quarters of a kilobyte of
// them from being freed, and not its whole batch.
const statesPerBlock = 32

// stateBlock allocates the states of one receive.
type stateBlock []deliveryState

func (b *stateBlock) next(f *fetched) *deliveryState {
	if len(*b) == 0 {
		*b = make([]deliveryState, statesPerBlock)
	}
	s := &(*b)[0]
	*b = (*b)[1:]
	s.lease.Store(f.lease)
	s.fetched = f
	return s
}
