package sequin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/failurelog"
	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/wire"
)

// Delivery is a message that is leased to the program: it belongs to the program for a limited time. It is a small value
// and may be copied. Settle it once, by Ack or Nack, before its lease ends: at its Deadline, unless it was extended. A message
// that is not settled is redelivered.
//
// Its methods may be called from any goroutine. On the zero Delivery Ack, AckSync, Nack, NackAfter, Release and Extend do nothing
// and return ErrNotDelivered.
type Delivery struct {
	Key  string
	Data string
	// Headers are those of the message, nil if it has none. All copies of the Delivery share the map.
	Headers map[string]string
	// Seq grows with every change of the stream: a later version of a key has a higher one.
	Seq                   int64
	InsertedAt, UpdatedAt time.Time
	// AckID is the server's name for the delivery. On the 2024 server a redelivery has the same one.
	AckID string
	// Deadline is when the lease ends for this program, as it was delivered. It is earlier than the end of the server's lease,
	// so that a settle made before the Deadline reaches the server in time. An extension moves the end of the lease, and not
	// this field.
	Deadline time.Time
	// Attempt counts the deliveries of this version of the message to the consumer, by all processes, including this one. A
	// server that announces attempts, as that of package server, does not count deliveries that nobody handled: messages that a
	// Subscriber or a handler pool has returned, those that a program has released, and those that a handler has snoozed. It counts those that a process had when it
	// crashed. Attempt is 0 if the server does not report it, as the 2024 server. For a sink it counts the deliveries to this
	// Subscriber.
	Attempt int
	// Acknowledger carries out Ack, AckSync, Nack, NackAfter, Release and Extend. A test may set a fake one in a literal Delivery,
	// which passes every call to it.
	Acknowledger Acknowledger

	state *deliveryState
}

// Acknowledger settles deliveries, and extends their leases. A Subscriber sets its own in each Delivery.
type Acknowledger interface {
	Settle(ctx context.Context, d Delivery, s Settlement) error
}

// SettlementKind is a way to settle a message, or to keep it for longer.
type SettlementKind uint8

// The kinds of Settlement.
const (
	Ack     SettlementKind = iota + 1 // done: not delivered again
	Nack                              // not done: available again
	Extend                            // not done yet: the lease ends later
	Release                           // not begun: available again, and not counted as a delivery
)

// Settlement is what Ack, AckSync, Nack, NackAfter, Release and Extend ask of an Acknowledger.
type Settlement struct {
	Kind SettlementKind
	// Delay is how long a Nack keeps the message back. With 0 it is available at once. For Extend it is the time from now to
	// the end of the lease.
	Delay time.Duration
	// Sync waits for the server's answer.
	Sync bool
}

// String returns the fields as %+v does, without the Acknowledger.
func (d Delivery) String() string {
	return fmt.Sprintf("{Key:%s Data:%s Headers:%v Seq:%d InsertedAt:%v UpdatedAt:%v AckID:%s Deadline:%v Attempt:%d}",
		d.Key, d.Data, d.Headers, d.Seq, d.InsertedAt, d.UpdatedAt, d.AckID, d.Deadline, d.Attempt)
}

// Stream returns the name of the stream that the message comes from, as Subscribe found it. It is empty for a Delivery
// that no Subscriber has made.
func (d Delivery) Stream() string {
	if d.state == nil {
		return ""
	}
	return d.state.fetched.origin.stream.Name
}

// Consumer returns the name of the consumer that delivered the message, as Subscribe found it. It is empty for a Delivery
// that no Subscriber has made.
func (d Delivery) Consumer() string {
	if d.state == nil {
		return ""
	}
	return d.state.fetched.origin.consumer.Name
}

// Ack marks the message as done. It queues the ack, returns at once and never blocks. Acks are sent in batches.
//
// Its errors are ErrSettled, ErrLeaseExpired (then nothing is sent), ErrClosed and ErrNotDelivered. If the request fails
// later, SubscriberConfig.OnAckError is called. AckSync waits for the request instead.
func (d Delivery) Ack() error {
	return d.settle(context.Background(), Settlement{Kind: Ack})
}

// AckSync is Ack, but waits until the server has confirmed it. Besides the errors of Ack it returns that of the request:
// ErrOutcomeUnknown if its answer was lost, an *APIError, or ErrClosed if the Subscriber stopped before it could send it.
//
// ctx bounds only the wait. If ctx ends first, AckSync returns ctx's error, and the ack is sent like that of Ack: if it
// fails, SubscriberConfig.OnAckError is called.
func (d Delivery) AckSync(ctx context.Context) error {
	return d.settle(ctx, Settlement{Kind: Ack, Sync: true})
}

// Nack makes the message available again at once, to any Subscriber of the consumer. It queues the nack, as Ack does, and
// has the same errors.
func (d Delivery) Nack() error {
	return d.settle(context.Background(), Settlement{Kind: Nack})
}

// NackAfter is Nack, and the message is available again after the delay, at most MaxNackDelay. When a handler of Handle,
// HandleBatch or Pipe calls it, the message is not counted as failed.
//
// The server keeps the message, if it announces nack-delay. The delay may be longer than the lease, the message takes no room
// in MaxInFlight, and it stays back when this process ends. It counts toward the consumer's MaxAckPending. Nacks that are
// sent together share a delay, which is then up to an eighth longer.
//
// Any other server has no delays. The Subscriber then keeps the nack, with the message in flight, and sends it before the
// lease ends, however long the delay is. At most half of MaxInFlight nacks are delayed. If there are more, the nacks that are
// due first are sent early. A Subscriber that stops sends all of them at once.
func (d Delivery) NackAfter(delay time.Duration) error {
	if d.state != nil && !d.state.settled.Load() {
		d.state.notes.Or(snoozedNote)
	}
	return d.settle(context.Background(), Settlement{Kind: Nack, Delay: max(0, delay)})
}

// Release gives back a message that the program will not handle. Like Nack it makes the message available again at once, to any
// Subscriber of the consumer, and is queued. Unlike Nack it is no attempt: a server that announces attempts does not count the
// delivery, and a handler of Handle, HandleBatch or Pipe that calls it has not failed, whatever it returns. Any other server
// counts the delivery as it counts that of a Nack.
//
// During a stop it is sent when the stop has cancelled the receives that wait at the server, which could get the message and
// lose it. The errors are those of Ack.
func (d Delivery) Release() error {
	if d.state != nil && !d.state.settled.Load() {
		d.state.notes.Or(snoozedNote)
	}
	return d.settle(context.Background(), Settlement{Kind: Release})
}

// Extend makes the server's lease end the given time from now, unless it ends later already, and waits for the answer. The
// delivery can then be settled until one LeaseMargin before that end, and Context follows. The time is at least 1 ms and at
// most MaxExtension. Requests of several deliveries are sent together, and repeated until the lease is over.
//
// Handle, HandleBatch and Pipe extend the leases of running handlers by themselves: see [HandlerConfig].MaxHandling.
//
// Its errors are ErrUnsupported if the server does not announce extend, ErrInvalidArgument, ErrSettled, ErrLeaseExpired if the
// lease is over or the server has lost it, ErrClosed, an *APIError for a refusal, and ErrNotDelivered. If ctx ends first,
// Extend returns ctx's error, and the lease may be extended all the same.
func (d Delivery) Extend(ctx context.Context, wait time.Duration) error {
	return d.settle(ctx, Settlement{Kind: Extend, Delay: wait, Sync: true})
}

func (d Delivery) settle(ctx context.Context, s Settlement) error {
	if d.Acknowledger == nil {
		return ErrNotDelivered
	}
	return d.Acknowledger.Settle(ctx, d, s)
}

// Context returns a context that ends at the Deadline, or when the Subscriber stops without waiting for the delivery to be
// settled. Where the server announces extend, it follows the extensions of the lease, its Deadline too; it also ends when
// the delivery is settled, and when the server has lost the lease. context.Cause is ErrLeaseExpired once the lease is over.
// Where the server does not, deliveries of one receive share the context. The context of a literal Delivery ends at its
// Deadline, or never if it has none.
func (d Delivery) Context() context.Context {
	if d.state != nil {
		return d.state.context(d.AckID)
	}
	if d.Deadline.IsZero() {
		return context.Background()
	}
	ctx, cancel := context.WithDeadline(context.Background(), d.Deadline)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// deliveryState is the state that the copies of a Delivery share. Each copy points to it. A map by ack id could not replace
// it, because on the 2024 server an expired delivery and its redelivery have the same ack id.
//
// A delivery whose lease is extended, or whose Context was called, has a Held that points to its own lease. The others use
// the lease of their receive, because an atomic store of a pointer for each message would cost 4 to 7% of a Subscriber's CPU
// time. It is a calls.Delivery.
type deliveryState struct {
	fetched *fetched
	held    atomic.Pointer[lease.Held]
	settled atomic.Bool
	ackID   string // for CloseNow; whoever has set settled removes it, so that no message is kept in memory because of another
	// notes has snoozedNote if the program called NackAfter or Release, perhaps too late. The rest is how many of the earlier deliveries
	// ended with their leases, and had no sign of a program.
	notes atomic.Uint32
}

const snoozedNote = 1 << 31

// isSnoozed reports whether the program called NackAfter or Release, perhaps too late.
func (s *deliveryState) isSnoozed() bool { return s.notes.Load()&snoozedNote != 0 }

// expired returns how many of the earlier deliveries ended with their leases, and had no sign of a program.
func (s *deliveryState) expired() int { return int(s.notes.Load() &^ snoozedNote) }

// Lease returns the current lease of the delivery.
func (s *deliveryState) Lease() *lease.Lease {
	if h := s.held.Load(); h != nil {
		return h.Lease()
	}
	return s.fetched.lease
}

// Hold returns the Held of the delivery, whose ack id is given.
func (s *deliveryState) Hold(ackID string) *lease.Held {
	if h := s.held.Load(); h != nil {
		return h
	}
	s.held.CompareAndSwap(nil, lease.NewHeld(ackID, &s.settled, s.fetched.lease))
	return s.held.Load()
}

// settle marks the delivery as settled, and returns its ack id. It reports false if the delivery is settled already: of several
// calls at once only one succeeds.
func (s *deliveryState) settle() (ackID string, ok bool) {
	if !s.settled.CompareAndSwap(false, true) {
		return "", false
	}
	ackID, s.ackID = s.ackID, ""
	return ackID, true
}

// IsSettled reports whether the program has settled the delivery.
func (s *deliveryState) IsSettled() bool { return s.settled.Load() }

// delaysNacks reports whether the server keeps a nacked message back.
func (s *deliveryState) delaysNacks() bool { return s.fetched.extensions.Has(wire.NackDelay) }

// counts reports whether the server counts deliveries, and knows of each whether a program worked on it.
func (s *deliveryState) counts() bool {
	return s.fetched.extensions.Has(wire.Attempts) && s.Extends()
}

// attempts returns how many deliveries of the message a program has worked on, by all processes, and counts this one with them.
// It leaves out the deliveries whose leases have expired without a sign of a program: a crashed process may have had the
// message in its buffer. It is 0 where the server does not count.
func (d Delivery) attempts() int {
	if !d.state.counts() {
		return 0
	}
	return d.Attempt - d.state.expired()
}

// Extends reports whether the server extends the lease.
func (s *deliveryState) Extends() bool { return s.fetched.extensions.Has(wire.Extend) }

// context returns the context of Delivery.Context.
func (s *deliveryState) context(ackID string) context.Context {
	if !s.Extends() {
		return s.Lease().Context()
	}
	w, made := s.Hold(ackID).Work()
	if made {
		s.fetched.holder.endInTime(s.held.Load())
	}
	return w
}

// statesPerBlock is how many states share an allocation, of 640 bytes. A Delivery that a program keeps therefore holds so many
// bytes of states in memory, and not the states of its whole batch.
const statesPerBlock = 16

// stateBlocks allocates the states of one receive.
type stateBlocks struct {
	blocks [][]deliveryState // each but the last is full
}

// next returns the state of the next delivery of a receive.
func (b *stateBlocks) next(f *fetched, ackID string) *deliveryState {
	last := len(b.blocks) - 1
	if last < 0 || len(b.blocks[last]) == statesPerBlock {
		b.blocks = append(b.blocks, make([]deliveryState, 0, statesPerBlock))
		last++
	}
	block := b.blocks[last][:len(b.blocks[last])+1]
	b.blocks[last] = block
	s := &block[len(block)-1]
	s.fetched, s.ackID = f, ackID
	return s
}

// fetched is what the deliveries of one receive have in common. Their states point to it.
type fetched struct {
	holder     holder          // the Subscriber's
	origin     *origin         // that of the Subscriber
	lease      *lease.Lease    // as received
	extensions wire.Extensions // that the answer announced

	// Only the loop uses these.
	batch      flow.Batch
	readBefore uint64 // how many deliveries had left the buffer when the first of these was added
	last       uint64 // position of the last of these, counting every delivery ever added to the buffer
}

// decode appends the deliveries of an answer to into. Their states come from states.
func (f *fetched) decode(into []Delivery, states *stateBlocks, by Acknowledger, body []byte) ([]Delivery, error) {
	decoder, m, sorted := wire.Decoder{Bare: true}, wire.Message{}, true
	for decoder.Reset(body); decoder.Next(&m); {
		if last := len(into) - 1; last >= 0 && into[last].Seq > m.Seq {
			sorted = false
		}
		state := states.next(f, m.AckID)
		if m.ExpiredCount > 0 {
			state.notes.Store(uint32(m.ExpiredCount))
		}
		into = append(into, Delivery{Key: m.Key, Data: m.Data, Headers: m.Headers, Seq: m.Seq, InsertedAt: m.InsertedAt,
			UpdatedAt: m.UpdatedAt, AckID: m.AckID, Deadline: f.lease.Deadline, Attempt: m.DeliverCount, Acknowledger: by, state: state})
	}
	// Sort each answer by seq: the 2024 server returns batches in reverse.
	if !sorted {
		slices.SortStableFunc(into, func(x, y Delivery) int { return cmp.Compare(x.Seq, y.Seq) })
	}
	return into, decoder.Err()
}

// decodeChanges is decode for an answer of a sink.
func (f *fetched) decodeChanges(into []Delivery, states *stateBlocks, by Acknowledger, body []byte) ([]Delivery, error) {
	decoder, m := wire.ChangeDecoder{}, wire.Change{}
	for decoder.Reset(body); decoder.Next(&m); {
		into = append(into, Delivery{Key: m.Key, Data: m.Data, AckID: m.AckID, Deadline: f.lease.Deadline, Acknowledger: by,
			state: states.next(f, m.AckID)})
	}
	return into, decoder.Err()
}

// receivedStates is what the ledger knows of a receive: the states of its deliveries, in blocks.
type receivedStates struct {
	fetched *fetched
	states  [][]deliveryState
}

// holder ends the context of a delivery when its lease is over.
type holder interface{ endInTime(h *lease.Held) }

// origin is where a Subscriber's messages come from: the stream and the consumer as Subscribe found them, or a sink.
type origin struct {
	stream   *Stream   // without a name for a sink
	consumer *Consumer // the same
	sink     string    // "" for a stream
	path     string    // of the consumer or the sink, below BaseURL
}

// names returns the names of the stream and the consumer, or "" and that of the sink.
func (o *origin) names() (stream, consumer string) {
	return o.stream.Name, cmp.Or(o.sink, o.consumer.Name)
}

// attrs names the origin in the log.
func (o *origin) attrs() []any {
	if o.sink != "" {
		return []any{"sink", o.sink}
	}
	return []any{"stream", o.stream.Name, "consumer", o.consumer.Name}
}

// failureID identifies the version of a message that a delivery holds. The
// messages of a sink have no seq, and their ack ids survive redelivery.
func failureID(d Delivery) failurelog.ID {
	if d.state != nil && d.state.fetched.origin.sink != "" {
		return failurelog.ID{Key: d.AckID}
	}
	return failurelog.ID{Key: d.Key, Seq: d.Seq}
}
