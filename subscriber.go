package sequin

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/background"
	"github.com/sequin-go/sequin/internal/breaker"
	"github.com/sequin-go/sequin/internal/extend"
	"github.com/sequin-go/sequin/internal/failurelog"
	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/linelog"
	"github.com/sequin-go/sequin/internal/outage"
)

// Subscriber receives a consumer's messages into a channel. Its methods are safe for concurrent use.
type Subscriber struct {
	client *Client
	cfg    SubscriberConfig
	origin *origin

	deliveries chan Delivery // of the buffer; closed by the loop
	buffer     deliveryBuffer
	soft       context.Context // ends when the Subscriber begins to stop; no receive starts after that
	softStop   context.CancelFunc
	hard       context.Context // ends when the Subscriber no longer waits for deliveries to be settled
	hardStop   context.CancelFunc
	receiving  context.Context // that of the receives
	cutOff     context.CancelFunc
	wakeups    chan struct{} // holds a token while the loop has something to check
	done       chan struct{} // closed when the Subscriber has stopped
	stop       stopState

	settler       *settler
	terms         atomic.Pointer[lease.Terms]
	ledger        *lease.Ledger[receivedStates, settling]
	times         flow.HandlingTimes
	late          atomic.Pointer[fetched] // the receive of a settle that came late, for the loop's window
	counts        subscriberCounts
	ackErrors     background.Queue // calls of OnAckError
	failedSettles failedSettles    // for Flush
	log           linelog.Lines
	outage        outage.Outage // receives fail

	mode          deliveryMode
	handlers      atomic.Pointer[handlerWatch] // nil without handlers
	breaker       breaker.Breaker[*deliveryState]
	slowSince     atomic.Pointer[time.Time] // when the breaker opened; nil while it is closed
	failures      *failurelog.Log           // of handlers
	minWindow     atomic.Int32              // the least size of the window: that of a handler's batch
	full          *flow.Full                // all room is taken, which makes HandleBatch check whether its batch can still grow
	leasesChanged atomic.Bool               // leases were extended or lost, or an extension has failed; the loop has not looked yet
}

// Subscribe starts receiving the messages of a consumer of a stream. Both are given by name or id. The Subscriber
// runs until Close is called or ctx ends. When ctx ends it stops as by Close, and waits at most DrainTimeout for deliveries
// to be settled.
//
// Subscribe first reads the consumer and the stream. It retries these reads as Config.Retry says, and uses the consumer's
// id from then on. Its errors are ErrNotFound, ErrUnauthorized, ErrUnreachable, ErrInvalidConfig, ErrInvalidArgument and
// ErrLeaseTooShort.
//
// It starts one goroutine that runs until the Subscriber has stopped. Each receive, ack request and nack request has a
// goroutine while it runs. About once a minute another one reads the consumer again, and looks for an available message if none
// was received since.
func (c *Client) Subscribe(ctx context.Context, stream, consumer string, cfg SubscriberConfig) (*Subscriber, error) {
	inFlight := cfg.MaxInFlight
	cfg, err := c.checkSubscriber(cfg)
	if err != nil {
		return nil, err
	}
	foundConsumer, err := c.GetConsumer(ctx, stream, consumer)
	if err != nil {
		return nil, c.explainMissingStreams(ctx, err)
	}
	if err := cmp.Or(cfg.checkLease(foundConsumer.AckWait), cfg.checkOrder(foundConsumer.MaxAckPending)); err != nil {
		return nil, err
	}
	cfg.MaxInFlight = cmp.Or(inFlight, inFlightOf(foundConsumer.MaxAckPending))
	foundStream, err := c.GetStream(ctx, stream)
	if err != nil {
		return nil, err
	}
	// By the consumer's id: names are not scoped to streams on the 2024 server.
	from := &origin{stream: foundStream, consumer: foundConsumer, path: consumerPath(stream, foundConsumer.ID)}
	return c.subscribe(ctx, cfg, from, foundConsumer.AckWait, foundStream.appends()), nil
}

// checkSubscriber returns a config with its defaults, or what is wrong with it.
func (c *Client) checkSubscriber(cfg SubscriberConfig) (SubscriberConfig, error) {
	cfg = cfg.withDefaults(c.limit)
	if err := cfg.validate(); err != nil {
		return cfg, err
	}
	if err := c.checkWaitFor(cfg.WaitFor); err != nil {
		return cfg, fmt.Errorf("%w: SubscriberConfig: %w", ErrInvalidConfig, err)
	}
	return cfg, nil
}

// subscribe starts a Subscriber. appends says that a repeated ack cannot settle a newer message.
func (c *Client) subscribe(ctx context.Context, cfg SubscriberConfig, from *origin, ackWait time.Duration, appends bool) *Subscriber {
	s := &Subscriber{client: c, cfg: cfg, origin: from,
		deliveries: make(chan Delivery, min(cfg.MaxInFlight, channelSize)), wakeups: make(chan struct{}, 1), done: make(chan struct{}),
		ledger: lease.NewLedger[receivedStates, settling](cfg.MaxInFlight), failures: failurelog.New(), full: flow.NewFull()}
	s.log.Log, s.log.Who, s.log.Attrs = c.log, "subscriber", from.attrs()
	s.buffer.channel, s.buffer.wake = s.deliveries, s.wake
	s.soft, s.softStop = context.WithCancel(ctx)
	s.hard, s.hardStop = context.WithCancel(context.WithoutCancel(ctx))
	s.receiving, s.cutOff = context.WithCancel(context.WithoutCancel(ctx))
	s.setTerms(lease.NewTerms(ackWait, cfg.LeaseMargin))
	s.settler = newSettler(s, appends)
	go newSubscriberLoop(s).run()
	return s
}

// extension says how the Subscriber extends leases.
func (s *Subscriber) extension() extend.Config {
	return extend.Config{MaxIDs: MaxBatch, Margin: s.cfg.LeaseMargin, Ledger: s.ledger, Expired: ErrLeaseExpired, Settled: ErrSettled,
		Send: func(ctx context.Context, ids []string, wait, timeout time.Duration) ([]string, error) {
			r := extendRequest(s.origin.path, ids, wait, neverRetry)
			r.timeout = timeout
			r.stream, r.consumer = s.origin.names()
			return s.client.extend(ctx, r)
		},
		Retry: func(err error, failures int) (final bool, wait time.Duration) {
			s.counts.noteError(err)
			return !IsTransient(err), s.client.cfg.Retry.wait(failures, err)
		},
		Changed: func() {
			s.leasesChanged.Store(true)
			s.wake()
		},
		Lost: func(n int) { s.changed(StateInfo{State: StateLeaseLost, Messages: n}) },
	}
}

// setTerms sets the lease terms of the receives that start from now on.
func (s *Subscriber) setTerms(t lease.Terms) { s.terms.Store(&t) }

// Stream returns the name of the stream, as Subscribe found it. It is empty for a sink.
func (s *Subscriber) Stream() string { return s.origin.stream.Name }

// Consumer returns the name of the consumer, as Subscribe found it, or of the sink.
func (s *Subscriber) Consumer() string {
	_, consumer := s.origin.names()
	return consumer
}

// Stopping returns a channel that is closed when the Subscriber begins to stop: after Close, the end of its ctx, the end of
// the ctx of its handlers, or an error that Err returns. From then on nothing is received. The Subscriber still waits for
// the deliveries that the program holds, so that a program may finish them, or give them back by [Delivery.Release].
func (s *Subscriber) Stopping() <-chan struct{} { return s.soft.Done() }

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
	if !s.mode.set(modeChannel) {
		return noDeliveries
	}
	if s.buffer.waits() || s.buffer.sleeps() {
		s.buffer.offerNext(time.Now())
	}
	return s.deliveries
}

// noDeliveries is the channel of a Subscriber whose deliveries go to handlers.
var noDeliveries = func() <-chan Delivery { c := make(chan Delivery); close(c); return c }()

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
	if !s.mode.set(modeChannel) {
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
		if !s.mode.set(modeChannel) {
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
	if check {
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

// Stats returns the totals so far. It may be called at any time.
func (s *Subscriber) Stats() SubscriberStats {
	c := &s.counts
	stats := SubscriberStats{Received: c.received.Load(), Acked: c.acked.Load(), Nacked: c.nacked.Load(),
		ExpiredInBuffer: c.expired.Load(), RefusedLate: c.refusedLate.Load(), OutlivedLease: c.outlived.Load(), UnknownOutcomes: c.unknown.Load(),
		Polls: c.polls.Load(), EmptyPolls: c.emptyPolls.Load()}
	// The order of these reads matters. A delivery that is added or read in between may be missed, but none is counted twice.
	recalled := c.recalled.Load()
	buffered := c.buffered.Load()
	stats.HandedOut = c.handOut(buffered - min(buffered, recalled+uint64(s.buffer.len())))
	if last := c.last.Load(); last != nil {
		stats.LastError, stats.LastErrorAt = last.err, last.at
	}
	stats.UnavailableSince = s.outage.Since()
	stats.InFlight, _ = s.ledger.InFlight()
	now := time.Now()
	for _, r := range s.ledger.OpenNotes() {
		stats.OldestAge = max(stats.OldestAge, now.Sub(r.fetched.lease.Began))
	}
	if p := s.handlers.Load(); p != nil {
		stats.HandlersOverdue = p.overdue(now)
	}
	return stats
}

// Flush waits until the server has confirmed the acks and nacks that were queued before the call, or they have failed. A nack
// that the Subscriber itself delays is queued when it is due: see [Delivery.NackAfter].
//
// It returns nil if all acks and nacks since the last Flush were carried out. Otherwise it returns how many were not, and the
// error of the first: ErrLeaseExpired, ErrOutcomeUnknown or an *APIError. OnAckError gets each of them as well. Those of
// AckSync do not count. If ctx ends first, Flush returns ctx's error and reports no failures yet. After a stop that left
// some of them it returns ErrClosed.
func (s *Subscriber) Flush(ctx context.Context) error {
	if err := cmp.Or(s.settler.acks.Flush(ctx), s.settler.nacks().Flush(ctx)); err != nil {
		return err
	}
	return s.failedSettles.collect()
}

// Err returns nil while the Subscriber runs, and after Close or the end of its ctx. Otherwise it returns why the Subscriber
// stopped: an *APIError with ErrNotFound (the consumer was deleted) or ErrUnauthorized (Sequin itself has refused every
// receive for 30 s), ErrLeaseTooShort, or ErrInvalidConfig if the consumer no longer keeps the order that Ordered wants.
func (s *Subscriber) Err() error { return s.stop.err() }

// Close stops the Subscriber. It stops receiving, closes the channel and returns the messages that the program did not
// read. It waits until the server has confirmed their return, and until the deliveries that the program holds are settled, or
// their leases end, or ctx ends. The leases of handlers that run are extended meanwhile, if the server can. After that it
// waits up to a second for handlers to return, up to one LeaseMargin for the last settles, and up to a second for OnAckError
// and the log. If the server is unavailable and ctx does not end, Close returns when the leases have ended.
//
// It returns nil if every delivery was settled or returned. Otherwise it returns a *DrainError, which wraps ErrLeaseExpired
// if the leases of unsettled deliveries ended before ctx. Every call returns the same value. Close may be called at any time,
// by several goroutines, and inside the range loop. In the loop, settle the current delivery first, because Close waits for
// it. After Close has returned, no goroutine, timer or request of the Subscriber runs.
//
// A server that announces end-receive ends the receive that waits there, which takes a round trip. That of any other server is
// cancelled: at once, or when it has run for 100 ms. If such a server delivers a message meanwhile, the message is not available until
// its lease ends. On loopback this can happen during about half a millisecond.
func (s *Subscriber) Close(ctx context.Context) error {
	s.stop.beginClose(false)
	s.softStop()
	s.wake()
	return s.awaitStop(ctx)
}

// CloseNow is Close, but gives back what the program has not settled, as [Delivery.Release] does, instead of waiting for it. A
// later Ack or Nack returns ErrSettled. Acks and nacks that were queued before are sent. Beside a Close that waits, CloseNow
// ends its wait.
//
// The contexts of handlers and of deliveries end at once. Handlers get up to a second to return and to settle what they have,
// before it is given back. CloseNow waits until the server has confirmed everything, or ctx ends, or the leases end. A handler calls
// it on another goroutine, because it waits for handlers.
//
// It returns nil if everything was settled or given back, and otherwise a *DrainError, as Close does.
func (s *Subscriber) CloseNow(ctx context.Context) error {
	s.stop.beginClose(true)
	s.softStop()
	s.wake() // the loop ends the contexts of handlers when it has closed the channel, so that none begins meanwhile
	return s.awaitStop(ctx)
}

// awaitStop waits until the Subscriber has stopped, and returns the result.
func (s *Subscriber) awaitStop(ctx context.Context) error {
	select {
	case <-s.done:
	case <-ctx.Done():
		s.stopWaiting(contextError(ctx))
		<-s.done
	}
	return s.stop.result()
}

// wake makes the loop check everything again. One token is enough for any number of calls.
func (s *Subscriber) wake() {
	select {
	case s.wakeups <- struct{}{}:
	default:
	}
}

// returnFromHandler returns a delivery that was read from the channel and that the program does not get.
func (s *Subscriber) returnFromHandler(d Delivery) {
	s.counts.recalled.Add(1)
	s.settler.nackUndelivered(d)
}

// changed reports a change of the Subscriber's state to Hooks.
func (s *Subscriber) changed(i StateInfo) {
	i.Stream, i.Consumer = s.origin.names()
	s.client.hooks.changed(i)
}

// handlerWatch holds what a Subscriber calls of its handler pool.
type handlerWatch struct {
	serving    func() bool         // whether they have deliveries that are not settled
	logHanging func(now time.Time) // logs those that have not returned although their leases are over
	overdue    func(now time.Time) int
	// keepLeases extends the leases of those that run, and ends the contexts of those whose leases are over. It returns when to
	// call it again, the zero time if nothing is due.
	keepLeases func(now time.Time) (next time.Time)
}
