package sequin

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/background"
	"github.com/sequin-go/sequin/internal/breaker"
	"github.com/sequin-go/sequin/internal/extend"
	"github.com/sequin-go/sequin/internal/failurelog"
	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
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
	lines         background.Queue // lines of the log

	mode          atomic.Int32                 // who gets the deliveries: see setMode
	handlers      atomic.Pointer[handlerWatch] // nil without handlers
	breaker       breaker.Breaker[*deliveryState]
	slowSince     atomic.Pointer[time.Time] // when the breaker opened; nil while it is closed
	failures      *failurelog.Log           // of handlers
	minWindow     atomic.Int32              // the least size of the window: that of a handler's batch
	full          atomic.Bool               // no receive runs, and there is no room for one
	filled        chan struct{}             // receives a token whenever full is set
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
	foundStream, err := c.GetStream(ctx, stream)
	if err != nil {
		return nil, err
	}
	// By the consumer's id: names are not scoped to streams on the 2024 server.
	from := &origin{stream: foundStream, consumer: foundConsumer, path: consumerPath(stream, foundConsumer.ID)}
	return c.subscribe(ctx, cfg, from, foundConsumer.AckWait, foundStream.appends()), nil
}

// explainMissingStreams adds to the error of a server without streams what it serves instead.
func (c *Client) explainMissingStreams(ctx context.Context, err error) error {
	if !noRoute(err) {
		return err
	}
	if c.servesSinks(ctx) {
		return fmt.Errorf("sequin: this Sequin serves sinks, not streams: use SubscribeSink: %w", err)
	}
	return fmt.Errorf("sequin: this Sequin has no consumers of streams: Subscribe needs v0.3.0 to v0.3.7, or sequin serve: %w", err)
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
		ledger: lease.NewLedger[receivedStates, settling](cfg.MaxInFlight), failures: failurelog.New(), filled: make(chan struct{}, 1)}
	s.buffer.channel = s.deliveries
	s.soft, s.softStop = context.WithCancel(ctx)
	s.hard, s.hardStop = context.WithCancel(context.WithoutCancel(ctx))
	s.receiving, s.cutOff = context.WithCancel(context.WithoutCancel(ctx))
	s.setTerms(ackWait)
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
func (s *Subscriber) setTerms(ackWait time.Duration) {
	terms := lease.NewTerms(ackWait, s.cfg.LeaseMargin)
	s.terms.Store(&terms)
}

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

// Flush waits until the server has confirmed the acks and nacks that were queued before the call, or they have failed. A nack
// that the Subscriber itself delays is queued when it is due: see [Delivery.NackAfter].
//
// It returns nil if all acks and nacks since the last Flush were carried out. Otherwise it returns how many were not, and the
// error of the first: ErrLeaseExpired, ErrOutcomeUnknown or an *APIError. OnAckError gets each of them as well. Those of
// AckSync do not count. If ctx ends first, Flush returns ctx's error and reports no failures yet. After a stop that left
// some of them it returns ErrClosed.
func (s *Subscriber) Flush(ctx context.Context) error {
	if err := cmp.Or(s.settler.acks.Flush(ctx), s.settler.nacks.Flush(ctx)); err != nil {
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
// their leases end, or ctx ends. The leases of handlers that run are extended meanwhile, if the server can. After that it waits up to a second for handlers to return, up to one LeaseMargin for the
// last settles, and up to a second for OnAckError and the log. If the server is unavailable and ctx does not end, Close returns when the leases have ended.
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

// blockedBy reports whether nothing can be received before one of the caller's n deliveries is settled. Two conditions must
// hold. There is no room for a receive, or as many messages are in flight as the consumer delivers at once. And no settle
// that would make room is being sent, because apart from messages with delayed nacks only the n deliveries are in flight.
func (s *Subscriber) blockedBy(n int) bool {
	limit := s.origin.consumer.MaxAckPending // 0 if the server does not report it
	full := s.full.Load()
	inFlight, delayed := s.ledger.InFlight()
	return (full || limit > 0 && inFlight >= limit) && inFlight-delayed <= n
}

// placesTaken reports whether no more nacks can be delayed.
func (s *Subscriber) placesTaken() bool { return s.ledger.PlacesTaken() }

// takePlace reserves a place for a dead letter. It reports false if dead letters hold all the places.
func (s *Subscriber) takePlace() bool {
	if !s.ledger.TakePlace() {
		return false
	}
	s.wake() // a delayed nack may be due now
	return true
}

// freePlace frees the place of a dead letter, whether or not it was sent.
func (s *Subscriber) freePlace() { s.ledger.FreePlace() }

// returnFromHandler returns a delivery that was read from the channel for a handler or by Take, and that the program does not
// get.
func (s *Subscriber) returnFromHandler(d Delivery) {
	s.counts.recalled.Add(1)
	s.settler.nackUndelivered(d)
}

// moveFreshestFirst swaps a delivery whose message has never failed to the front, because it is the better probe.
func (s *Subscriber) moveFreshestFirst(got []Delivery) {
	i := slices.IndexFunc(got, func(d Delivery) bool { return s.failures.Get(failureID(d)).Failures == 0 })
	if i > 0 {
		got[0], got[i] = got[i], got[0]
	}
}

// log writes a log line in the background. The loop and the senders of acks must not wait for the log: a slog.Handler may
// send through a Publisher, which waits while the server is unavailable.
func (s *Subscriber) log(level slog.Level, what string, args ...any) {
	if s.client.log.Enabled(context.Background(), level) {
		s.lines.Add(func() { s.logNow(level, what, args...) }, maxLines)
	}
}

// logNow writes a log line.
func (s *Subscriber) logNow(level slog.Level, what string, args ...any) {
	s.client.log.Write(context.Background(), level, "subscriber "+what, append(s.origin.attrs(), args...)...)
}

// changed reports a change of the Subscriber's state to Hooks.
func (s *Subscriber) changed(i StateInfo) {
	i.Stream, i.Consumer = s.origin.names()
	s.client.hooks.changed(i)
}

// noteFailing records that a receive has failed, and logs the first of those in a row.
func (lp *subscriberLoop) noteFailing(now time.Time, err error) {
	if lp.failures == 0 {
		lp.failingSince = now
		lp.sub.counts.failing.Store(&now)
	}
	if lp.told || now.Before(lp.nextTold) {
		return
	}
	lp.told, lp.nextTold = true, now.Add(outageInterval)
	lp.sub.log(slog.LevelWarn, "could not receive, and retries", "error", err)
	lp.sub.changed(StateInfo{State: StateUnavailable, Err: err})
}

// noteReceiving records that a receive has succeeded.
func (lp *subscriberLoop) noteReceiving(now time.Time) {
	if lp.failures == 0 {
		return
	}
	lp.sub.counts.failing.Store(nil)
	if !lp.told {
		return
	}
	lp.told = false
	lasted := now.Sub(lp.failingSince)
	lp.sub.log(slog.LevelInfo, "receives again", "failures", lp.failures, "for", lasted)
	lp.sub.changed(StateInfo{State: StateUnavailable, Over: true, For: lasted})
}

// noteWindow reports that the window has shrunk, or has reached the size that it had before.
func (lp *subscriberLoop) noteWindow(now time.Time) {
	switch size := lp.window.Size(); {
	case lp.windowBefore == 0 && size < lp.windowSeen:
		lp.windowBefore, lp.shrunkSince = lp.windowSeen, now
		lp.sub.changed(StateInfo{State: StateWindowShrunk, Messages: size})
	case lp.windowBefore > 0 && size >= lp.windowBefore:
		lp.windowBefore = 0
		lp.sub.changed(StateInfo{State: StateWindowShrunk, Over: true, For: now.Sub(lp.shrunkSince), Messages: size})
	}
	lp.windowSeen = lp.window.Size()
}

// endStates reports the end of the states of the Subscriber, which has stopped.
func (lp *subscriberLoop) endStates() {
	end := func(state State, since time.Time) {
		lp.sub.changed(StateInfo{State: state, Over: true, For: time.Since(since)})
	}
	if lp.told {
		end(StateUnavailable, lp.failingSince)
	}
	if lp.windowBefore > 0 {
		end(StateWindowShrunk, lp.shrunkSince)
	}
	if since := lp.sub.slowSince.Swap(nil); since != nil {
		end(StateBreakerOpen, *since)
	}
}

// noteDelivered reports the messages of a receive to Hooks.
func (s *Subscriber) noteDelivered(all []Delivery) {
	if !s.client.hooks.wantsDelivered() || len(all) == 0 {
		return
	}
	i, now := SettleInfo{Messages: len(all)}, time.Now()
	i.Stream, i.Consumer = s.origin.names()
	for n := range all {
		if at := all[n].UpdatedAt; !at.IsZero() {
			age := max(0, now.Sub(at))
			i.Oldest, i.Total = max(i.Oldest, age), i.Total+age
		}
	}
	s.client.hooks.deliver(i)
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

// handlerGrace is how long a stop waits for handlers to return after their contexts have ended. It is enough for a rollback,
// and not for more work.
const handlerGrace = time.Second
