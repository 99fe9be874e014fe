package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/breaker"
	"github.com/sequin-go/sequin/internal/failurelog"
)

// SubscriberConfig of Subscribe. The zero value works. It is copied.
type SubscriberConfig struct {
	// MaxInFlight is the most deliveries that are buffered, or handed out and, by the server's reckoning, neither settled
	// nor expired. It bounds memory, and with it how much a crash lets wait for a lease to end. Within it the Subscriber
	// has no more in flight than the program settles in time, not counting nacks that are held back: it begins with 32,
	// takes more while the program is quick beside its lease, and less when messages expire in the buffer. The server may
	// hold more to be out only for as long as a lengthened ack_wait has not been noticed, a minute at most. 1 to 100,000,
	// default 1,000.
	MaxInFlight int
	// Pollers is how many receives may be made at once. One of them may wait in a long poll; the others run only while
	// receives come back full. 1 to 16, default 2.
	Pollers int
	// WaitFor is how long a receive may wait at the server for a message. 500 ms to 5 min, default 20 s, less where
	// HTTPClient.Timeout asks for it. Where the server refuses to wait, and where the lease is too short to be spent
	// waiting (see the package comment), the Subscriber polls.
	WaitFor time.Duration
	// PollMin and PollMax bound the pause between receives that find nothing at a server which does not wait: it grows
	// from one to the other. Defaults 10 ms and 1 s.
	PollMin, PollMax time.Duration
	// LeaseMargin is the part of the lease that is kept for a settle to travel; a Delivery's Deadline is that much before
	// the server's. At most half of ack_wait. Default a quarter of ack_wait, at most 2 s.
	LeaseMargin time.Duration
	// DrainTimeout bounds how long a cancelled ctx waits for deliveries that are handed out, and for the server's word that
	// what was not has been given back. Close replaces it by its own ctx. Default 10 s.
	DrainTimeout time.Duration
	// OnAckError is told of each ack and nack that failed after its call had returned: ErrOutcomeUnknown, ErrLeaseExpired,
	// an *APIError, or ErrClosed when a stop was cut off before it could be sent. One call at a time, on a goroutine of its
	// own, which is waited for; it must return soon and not call Close. A panic of it is recovered and logged. What
	// AckSync has returned it is not told of.
	OnAckError func(Delivery, error)
}

// maxInFlight bounds SubscriberConfig.MaxInFlight: ten times the server's default max_ack_pending. See also maxPollers.
const maxInFlight = 100_000

func (c SubscriberConfig) withDefaults(limit time.Duration) SubscriberConfig {
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 1000
	}
	if c.Pollers == 0 {
		c.Pollers = 2
	}
	if c.WaitFor == 0 {
		c.WaitFor = 20 * time.Second
		if limit > 0 {
			c.WaitFor = min(c.WaitFor, (limit - time.Second).Truncate(time.Millisecond))
		}
		if c.WaitFor < minWaitFor {
			c.WaitFor = 0 // too little for any wait: polls
		}
	}
	if c.PollMin == 0 {
		c.PollMin = 10 * time.Millisecond
	}
	if c.PollMax == 0 {
		c.PollMax = max(time.Second, c.PollMin)
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 10 * time.Second
	}
	return c
}

func (c SubscriberConfig) validate() error {
	switch {
	case c.MaxInFlight < 1 || c.MaxInFlight > maxInFlight:
		return fmt.Errorf("%w: SubscriberConfig.MaxInFlight is %d, must be 1 to %d", ErrInvalidConfig, c.MaxInFlight, maxInFlight)
	case c.Pollers < 1 || c.Pollers > maxPollers:
		return fmt.Errorf("%w: SubscriberConfig.Pollers is %d, must be 1 to %d", ErrInvalidConfig, c.Pollers, maxPollers)
	case c.PollMin < time.Millisecond || c.PollMax < c.PollMin:
		return fmt.Errorf("%w: SubscriberConfig.PollMin %v and PollMax %v, must be 1ms <= PollMin <= PollMax", ErrInvalidConfig, c.PollMin, c.PollMax)
	case c.LeaseMargin < 0 || c.DrainTimeout < 0:
		return fmt.Errorf("%w: SubscriberConfig.LeaseMargin %v and DrainTimeout %v must not be negative", ErrInvalidConfig, c.LeaseMargin, c.DrainTimeout)
	}
	return nil
}

// Subscriber receives a consumer's messages into a channel. Its methods are safe for concurrent use.
type Subscriber struct {
	client   *Client
	cfg      SubscriberConfig
	stream   string
	consumer string // its id: names are not scoped to streams on the 2024 server

	deliveries chan Delivery   // sent on, and closed, by the loop alone
	soft       context.Context // ends when the Subscriber is to stop: no new receive
	softStop   context.CancelFunc
	hard       context.Context // ends when the Subscriber no longer waits for open deliveries
	hardStop   context.CancelFunc
	settler    *settler
	wakeups    chan struct{} // room, a delayed nack or a Close: the loop looks again
	done       chan struct{} // closed when nothing of the Subscriber is left

	leaseTerms atomic.Pointer[leaseTerms]
	counts     subscriberCounts
	tempo      tempo
	lateLease  atomic.Pointer[lease] // of a settle that came late, for the loop to learn from
	ackErrors  sync.Mutex            // one OnAckError at a time

	origin    origin
	mode      atomic.Int32 // who gets the deliveries: see setMode
	breaker   breaker.Breaker[*deliveryState]
	failures  *failurelog.Log // of handlers
	minWindow atomic.Int32    // room that a batch takes, whatever the window says
	full      atomic.Bool     // no receive runs, and there is no room for one
	filled    chan struct{}   // gets a value whenever full is set

	mu       sync.Mutex // guards all below; held for arithmetic only
	inFlight int        // room taken by deliveries: the sum over leases
	leases   leases
	held     []heldNack // by when they are due
	leaving  int        // dead letters on their way
	stopping bool
	closing  bool // Close was called: its ctx replaces DrainTimeout
	cause    error
	left     DrainError // what a stop could not settle, so far
	err      error      // why the channel closed
	outcome  error      // what Close returns
}

// Subscribe starts receiving the messages of a consumer, named or by id, of a stream. ctx is the subscription's life:
// when it ends, the Subscriber stops as by Close, waiting at most DrainTimeout for what is handed out.
//
// It reads the consumer and the stream first, repeating as Config.Retry says, and uses the consumer's id from then on.
// The errors are ErrNotFound, ErrUnauthorized, ErrUnreachable, ErrInvalidConfig, ErrInvalidArgument and ErrLeaseTooShort.
// Started are one goroutine, one for each receive that runs, those of the acks and nacks that travel, and about every
// minute one that reads the consumer again.
func (c *Client) Subscribe(ctx context.Context, stream, consumer string, cfg SubscriberConfig) (*Subscriber, error) {
	cfg = cfg.withDefaults(c.limit)
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := c.checkWaitFor(cfg.WaitFor); err != nil {
		return nil, fmt.Errorf("%w: SubscriberConfig: %w", ErrInvalidConfig, err)
	}
	found, err := c.GetConsumer(ctx, stream, consumer)
	if err != nil {
		return nil, err
	}
	if err := checkLease(found.AckWait); err != nil {
		return nil, err
	}
	if cfg.LeaseMargin > found.AckWait/2 {
		return nil, fmt.Errorf("%w: SubscriberConfig.LeaseMargin is %v, more than half of the consumer's ack_wait %v", ErrInvalidConfig, cfg.LeaseMargin, found.AckWait)
	}
	where, err := c.GetStream(ctx, stream)
	if err != nil {
		return nil, err
	}
	s := &Subscriber{client: c, cfg: cfg, stream: stream, consumer: found.ID, deliveries: make(chan Delivery, cfg.MaxInFlight),
		wakeups: make(chan struct{}, 1), done: make(chan struct{}), origin: origin{where, found},
		failures: failurelog.New(), filled: make(chan struct{}, 1)}
	s.soft, s.softStop = context.WithCancel(ctx)
	s.hard, s.hardStop = context.WithCancel(context.WithoutCancel(ctx))
	s.setTerms(found.AckWait)
	s.settler = newSettler(s)
	s.settler.repeatAcks = where.appends()
	go newSubscriberLoop(s).run()
	return s, nil
}

func checkLease(ackWait time.Duration) error {
	if ackWait < minLease {
		return fmt.Errorf("%w: the consumer's ack_wait is %v, a Subscriber needs %v", ErrLeaseTooShort, ackWait, minLease)
	}
	return nil
}

func (s *Subscriber) setTerms(ackWait time.Duration) {
	terms := newLeaseTerms(ackWait, s.cfg.LeaseMargin)
	s.leaseTerms.Store(&terms)
}

func (s *Subscriber) terms() leaseTerms { return *s.leaseTerms.Load() }

// Err returns nil while the Subscriber runs, and after Close or a cancelled ctx; otherwise why it stopped: an *APIError
// with ErrNotFound (the consumer is gone) or ErrUnauthorized, or ErrLeaseTooShort.
func (s *Subscriber) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close stops receiving, closes the channel, gives back at once what was not handed out, and waits until that is
// confirmed and what was handed out is settled, until their leases end, or until ctx ends; then the last settles get at
// most a LeaseMargin more. With the server away and a ctx without an end this takes as long as the leases do.
//
// It returns nil or a *DrainError, every call the same. It may be called at any time, by several goroutines, also from
// inside the range loop, whose current delivery it then waits for: settle that first. Afterwards no goroutine, timer or
// request of the Subscriber remains.
//
// A message that the server hands out at the very moment at which a waiting receive is cut is lost to its lease: about
// half a millisecond on loopback.
func (s *Subscriber) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.softStop()
	s.wake()
	select {
	case <-s.done:
	case <-ctx.Done():
		s.giveUp(ended(ctx))
		<-s.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outcome
}

// giveUp ends the waiting for handed-out deliveries.
func (s *Subscriber) giveUp(cause error) {
	s.mu.Lock()
	if s.cause == nil {
		s.cause = cause
	}
	s.mu.Unlock()
	s.hardStop()
	s.wake()
}

// nudge lets intake look again. One token is enough: it looks at everything.
func (s *Subscriber) wake() {
	select {
	case s.wakeups <- struct{}{}:
	default:
	}
}

// heldNack is a nack to be sent later.
type heldNack struct {
	settling
	at time.Time
}

// hold keeps a nack until at, cut to what its lease allows: half a margin before the deadline, so that it is still sent
// in time. It reports false when the nack should go now.
func (s *Subscriber) hold(x settling, at time.Time) bool {
	l := x.state.lease
	if latest := l.deadline.Add(-l.margin / 2); at.After(latest) {
		at = latest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || !time.Now().Before(at) {
		return false
	}
	i, _ := slices.BinarySearchFunc(s.held, at, func(h heldNack, at time.Time) int { return h.at.Compare(at) })
	s.held = slices.Insert(s.held, i, heldNack{x, at})
	s.makeWayLocked()
	s.wake()
	return true
}

// settled is told how settles ended. One that the server confirmed frees its room; of any other the server may still hold
// the message to be out, and the room is free when its lease is over.
func (s *Subscriber) settled(kind SettlementKind, items []batch.Entry[settling], err error) {
	n := uint64(len(items))
	switch {
	case items[0].Item.undelivered: // then all are, or ErrClosed is the error of what two lanes left
	case err == nil && kind == Ack:
		s.counts.acked.Add(n)
	case err == nil:
		s.counts.nacked.Add(n)
	case errors.Is(err, ErrOutcomeUnknown):
		s.counts.unknown.Add(n)
	case errors.Is(err, ErrLeaseExpired):
		s.counts.refusedLate.Add(n)
	}
	s.mu.Lock()
	for i := range items {
		if x := &items[i].Item; err != nil && s.leftLocked(x, err) {
			s.left.add(err)
		}
		l := items[i].Item.state.lease
		if l.room == 0 {
			continue // its end has given everything back
		}
		l.open--
		if err == nil {
			s.inFlight--
			if l.room--; l.room == 0 {
				s.leases.remove(l)
			}
		}
	}
	s.mu.Unlock()
	s.wake()
}

func (s *Subscriber) ackFailed(d Delivery, err error) {
	s.ackErrors.Lock()
	defer s.ackErrors.Unlock()
	if panicked := callApart("OnAckError", func() { s.cfg.OnAckError(d, err) }); panicked != nil {
		s.log(slog.LevelError, "recovered a panic of OnAckError", errorAttrs(d.Key, panicked)...)
	}
}

// SubscriberStats are totals since Subscribe.
type SubscriberStats struct {
	// Received counts messages in answers; HandedOut those that left the channel.
	Received, HandedOut uint64
	// Acked and Nacked count settles that the server confirmed, without nacks of what was never handed out.
	Acked, Nacked uint64
	// ExpiredInBuffer counts messages that were given back because nobody took them in time.
	ExpiredInBuffer uint64
	// RefusedLate counts settles that were not sent because the lease was over.
	RefusedLate uint64
	// UnknownOutcomes counts settles whose answer was lost.
	UnknownOutcomes uint64
	// Polls counts receives; EmptyPolls those that brought nothing.
	Polls, EmptyPolls uint64
	// InFlight is how many deliveries are buffered, or handed out and not settled on the server, now.
	InFlight int
	// LastError is the last that a request ended with, nil when there was none.
	LastError error
}

// Stats returns the totals so far. It may be called at any time.
func (s *Subscriber) Stats() SubscriberStats {
	c := &s.counts
	stats := SubscriberStats{Received: c.received.Load(), Acked: c.acked.Load(), Nacked: c.nacked.Load(),
		ExpiredInBuffer: c.expired.Load(), RefusedLate: c.refusedLate.Load(), UnknownOutcomes: c.unknown.Load(),
		Polls: c.polls.Load(), EmptyPolls: c.emptyPolls.Load()}
	// Read in this order, so that what is handed out in between is missed and not counted twice.
	taken := c.takenBack.Load()
	pushed := c.pushed.Load()
	stats.HandedOut = pushed - min(pushed, taken+uint64(len(s.deliveries)))
	if err := c.last.Load(); err != nil {
		stats.LastError = *err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.InFlight = s.inFlight
	return stats
}

type subscriberCounts struct {
	received, pushed, takenBack, acked, nacked, expired, refusedLate, unknown, polls, emptyPolls atomic.Uint64

	last atomic.Pointer[error]
}

func (c *subscriberCounts) note(err error) { c.last.Store(&err) }

func (s *Subscriber) log(level slog.Level, what string, args ...any) {
	s.client.cfg.Logger.Log(context.Background(), level, "sequin: subscriber "+what,
		append([]any{"stream", s.stream, "consumer", s.consumer}, args...)...)
}

// origin is where a Subscriber's messages come from, as Subscribe found it.
type origin struct {
	stream   *Stream
	consumer *Consumer
}

// setFull notes whether nothing more can be received until room is made. Each time it is so, whoever gathers a batch
// looks whether that batch is complete: what takes up the room may have changed.
func (lp *subscriberLoop) setFull(full bool) {
	lp.sub.full.Store(full)
	if !full {
		return
	}
	select {
	case lp.sub.filled <- struct{}{}:
	default:
	}
}

// The uses that a Subscriber's deliveries can be put to.
const (
	modeNone int32 = iota
	modeChannel
	modeHandlers
)

// claim takes the deliveries for one use. Only a program that ranges over them may claim them again.
func (s *Subscriber) setMode(mode int32) bool {
	return s.mode.CompareAndSwap(modeNone, mode) || mode == modeChannel && s.mode.Load() == mode
}

// noDeliveries is the channel of a Subscriber whose deliveries go to handlers.
var noDeliveries = func() <-chan Delivery { c := make(chan Delivery); close(c); return c }()

// Deliveries returns the channel of deliveries, the same at every call. It is closed when the Subscriber stops; Err
// then says why. Any number of goroutines may range over it. After Handle, HandleBatch or Pipe, to which the deliveries
// go instead, it is a closed channel; after Deliveries these return ErrBusy.
func (s *Subscriber) Deliveries() <-chan Delivery {
	if !s.setMode(modeChannel) {
		return noDeliveries
	}
	return s.deliveries
}

// maxHeld is how many nacks may be held back, and dead letters be on their way, together: half the room, so that messages
// that fail leave the rest to others.
func (s *Subscriber) maxHeld() int { return max(1, s.cfg.MaxInFlight/2) }

// noneToCome reports whether nothing can be received before one of those n deliveries is settled: there is no room for a
// receive, or what is in flight is all that the consumer hands out at once, and, held nacks apart, it is those n; none is
// on its way to the server, to make room for another.
func (s *Subscriber) blockedBy(n int) bool {
	most := s.origin.consumer.MaxAckPending // 0 where the server does not say
	s.mu.Lock()
	defer s.mu.Unlock()
	full := s.full.Load() || most > 0 && s.inFlight >= most
	return full && s.inFlight-len(s.held) <= n
}

// crowded reports whether no more nacks can be held back.
func (s *Subscriber) placesFull() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)+s.leaving >= s.maxHeld()
}

// makeWayLocked lets the held nacks that are due first go now, when there are too many.
func (s *Subscriber) makeWayLocked() {
	for i := range min(len(s.held), len(s.held)+s.leaving-s.maxHeld()) {
		s.held[i].at = time.Now()
	}
}

// depart takes a place for a dead letter, from a held nack where there is no other: what leaves makes room, what is held
// back does not. It reports false when dead letters have all the places.
func (s *Subscriber) takePlace() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving >= s.maxHeld() {
		return false
	}
	s.leaving++
	s.makeWayLocked()
	s.wake()
	return true
}

// arrive gives the place of a dead letter back, whatever became of it.
func (s *Subscriber) freePlace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving--
}

// unseen gives back a delivery that was taken from the channel and shown to no program.
func (s *Subscriber) returnUndelivered(d Delivery) {
	s.counts.takenBack.Add(1)
	s.settler.returnDelivery(d)
}
