package sequin

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
)

// subscriberLoop is the state of the goroutine that a Subscriber runs until it has stopped. The loop decides when to receive,
// buffers the deliveries, and stops the Subscriber. Only this goroutine uses the fields, so that they need no lock. Receives
// and reads of the consumer run on goroutines of their own, which report to the loop by its channels.
type subscriberLoop struct {
	sub         *Subscriber
	answers     chan *answer // of pointers, because it has room for every poller and an idle Subscriber keeps it
	asks        chan ask     // made by a stop
	asking      int          // requests to end a receive that run
	cancelledAt time.Time    // when a stop last cancelled a receive
	checks      chan check
	timer       *time.Timer
	receives    []*receiving // those that run
	window      flow.Window
	parallel    flow.Parallel
	distance    flow.Distance // of receives
	wait        flow.Wait

	prefetched []*fetched // those with deliveries in the buffer, in its order

	more        bool      // the last receive returned as many messages as it asked for
	knowsWaited bool      // the last answer reported how long the server had waited
	refusesWait bool      // the server refuses wait_for
	noWaitUntil time.Time // until then receives do not wait, because max_waiting was reached
	nextReceive time.Time
	empties     int // consecutive backoffs after an empty or rate-limited receive
	failures    int // consecutive receives that failed

	attempts      sinkAttempts // of a sink
	early         bool         // the last answer was an early empty one of a sink
	settledBefore uint64       // the settles before it

	shrunk       flow.Shrunk
	refusedSince time.Time // when the first of the consecutive receives failed that Sequin refused with 401 or 403

	extends  bool      // an answer has announced that leases can be extended
	nextKeep time.Time // when to look at the leases of handlers

	nextCheck    time.Time
	checking     bool
	stall        stall
	missing      bool  // the consumer was not found, and no receive or check has succeeded since
	failedChecks int   // failed checks since missing was set
	fatal        error // why the Subscriber stops by itself
}

func newSubscriberLoop(s *Subscriber) *subscriberLoop {
	first, most := s.cfg.pollers()
	lp := &subscriberLoop{sub: s, answers: make(chan *answer, most), checks: make(chan check, 1), timer: time.NewTimer(0),
		window:    flow.NewWindow(s.cfg.MaxInFlight, first, MaxBatch, &s.times),
		parallel:  flow.NewParallel(first, most),
		nextCheck: time.Now().Add(aboutAMinute())}
	s.outage.Begun, s.outage.Over = lp.unavailable, lp.availableAgain
	return lp
}

func (lp *subscriberLoop) run() {
	b := &lp.sub.buffer
	for due := true; lp.sub.soft.Err() == nil && lp.fatal == nil; {
		now := time.Now()
		if due {
			lp.runDue(now)
		}
		next, room := b.next(now, lp.sub.mode.handlers())
		due = true
		select {
		case room <- next:
			b.sent()
			due = false // nothing else has changed; the timer shows what the program has read
		case a := <-lp.answers:
			lp.handleAnswer(*a)
		case c := <-lp.checks:
			lp.handleCheck(c)
		case <-lp.sub.wakeups:
		case <-lp.timer.C:
		case <-lp.sub.soft.Done():
		}
		b.unsent()
	}
	lp.runStop()
}

// never is how long to wait if only an event can change anything.
const never = time.Hour

// runDue does what is due at now, and sets the timer to when something is due next.
func (lp *subscriberLoop) runDue(now time.Time) {
	next := now.Add(never)
	soonest := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	lp.dropRead(now)
	if by := lp.handOverBy(); !by.IsZero() && lease.Past(now, by) {
		lp.recall(now)
	}
	if f := lp.sub.late.Swap(nil); f != nil {
		lp.window.Late(&f.batch)
	}
	soonest(lp.keepLeases(now))
	soonest(lp.expire(now))
	soonest(lp.sendDelayed(now))
	lp.endEarlyBackoff(now)
	soonest(lp.startReceives(now))
	soonest(lp.checkWhenDue(now))
	lp.noteWindow(now)
	if by := lp.handOverBy(); !by.IsZero() {
		lp.sub.buffer.check(now, lp.readCount(), lp.sub.times.Count(), lp.sub.mode.handlers())
		soonest(by)
		soonest(now.Add(lp.sub.buffer.pause(lp.window.Sample(lp.sub.buffer.len()))))
	}
	lp.timer.Reset(time.Until(next))
}

// noteWindow reports that the window has shrunk, or has reached the size that it had before.
func (lp *subscriberLoop) noteWindow(now time.Time) {
	size := lp.window.Size()
	switch change, lasted := lp.shrunk.Look(now, size); change {
	case flow.Shrank:
		lp.sub.changed(StateInfo{State: StateWindowShrunk, Messages: size})
	case flow.Regrew:
		lp.sub.changed(StateInfo{State: StateWindowShrunk, Over: true, For: lasted, Messages: size})
	}
}

// readCount returns how many deliveries have left the buffer, including those that were recalled.
func (lp *subscriberLoop) readCount() uint64 {
	return lp.sub.counts.buffered.Load() - uint64(lp.sub.buffer.len())
}

// dropRead removes the receives whose last delivery has left the buffer from prefetched.
func (lp *subscriberLoop) dropRead(now time.Time) {
	read := lp.readCount()
	n := 0
	for n < len(lp.prefetched) && lp.prefetched[n].last <= read {
		lp.window.Read(now, &lp.prefetched[n].batch)
		lp.prefetched[n] = nil
		n++
	}
	lp.prefetched = lp.prefetched[n:]
}

// handOverBy returns when the next buffered delivery must be recalled, the zero time if the buffer is empty. Concurrent
// receives may be answered out of order, so the earliest hand-over time need not belong to the front of the channel.
func (lp *subscriberLoop) handOverBy() (first time.Time) {
	for _, f := range lp.prefetched {
		if by := f.lease.HandOverBy; first.IsZero() || by.Before(first) {
			first = by
		}
	}
	return first
}

// push adds deliveries of one receive to the buffer, which keeps the slice. They move to the channel when runDue ends.
func (lp *subscriberLoop) push(f *fetched, ds []Delivery) {
	if len(ds) == 0 {
		lp.sub.buffer.reuse(ds)
		return
	}
	n := uint64(len(ds))
	f.last = lp.sub.counts.buffered.Load() + n
	if last := len(lp.prefetched) - 1; last < 0 || lp.prefetched[last] != f {
		lp.prefetched = append(lp.prefetched, f)
	}
	lp.sub.buffer.add(ds)
	lp.sub.counts.buffered.Add(n)
}

// recall empties the buffer, returns the deliveries whose hand-over time has passed, and buffers the others again, in order.
func (lp *subscriberLoop) recall(now time.Time) {
	read, was := lp.readCount(), lp.prefetched
	all := lp.drainBuffer()
	lp.prefetched = nil
	fresh := slices.DeleteFunc(all, func(d Delivery) bool {
		late := lease.Past(now, d.state.fetched.lease.HandOverBy)
		if late {
			lp.sub.settler.nackUndelivered(d)
		}
		return late
	})
	late := len(all) - len(fresh)
	for len(fresh) > 0 {
		f, n := fresh[0].state.fetched, 1
		for n < len(fresh) && fresh[n].state.fetched == f {
			n++
		}
		lp.push(f, fresh[:n:n])
		fresh = fresh[n:]
	}
	if late == 0 {
		return
	}
	lp.sub.counts.expired.Add(uint64(late))
	for _, f := range was {
		if lease.Past(now, f.lease.HandOverBy) {
			lp.window.Expired(now, &f.batch, read-min(read, f.readBefore))
		}
	}
	lp.sub.changed(StateInfo{State: StateExpired, Messages: late})
	lp.sub.log.Add(slog.LevelWarn, "returned deliveries that were not read in time", "deliveries", late, "window", lp.window.Size())
}

// expire frees the room of leases that are over, and returns when the next lease ends.
func (lp *subscriberLoop) expire(now time.Time) (next time.Time) {
	unsettled, next := lp.sub.ledger.Expire(now)
	for _, r := range unsettled {
		if lp.sub.buffer.len() == 0 {
			lp.window.Unsettled(&r.fetched.batch)
		}
	}
	if p := lp.sub.handlers.Load(); p != nil && len(unsettled) > 0 {
		p.logHanging(now)
	}
	return next
}

// keepLeases makes the handlers extend their leases in time, and ends the contexts of deliveries whose leases are over. It
// returns when to call it again, the zero time if nothing is due.
//
// Handlers report nothing when they begin: instead the loop looks at all of them when a lease is half over.
func (lp *subscriberLoop) keepLeases(now time.Time) (next time.Time) {
	over, next := lp.sub.ledger.Overdue(now)
	for _, h := range over {
		h.EndWork(ErrLeaseExpired)
	}
	p := lp.sub.handlers.Load()
	if p == nil || !lp.extends {
		return next
	}
	if lp.sub.leasesChanged.Swap(false) || !now.Before(lp.nextKeep) {
		lp.nextKeep = now.Add(never)
		for _, at := range []time.Time{lp.sub.ledger.NextHalf(now), p.keepLeases(now)} {
			if !at.IsZero() && at.Before(lp.nextKeep) {
				lp.nextKeep = at
			}
		}
	}
	if next.IsZero() || lp.nextKeep.Before(next) {
		next = lp.nextKeep
	}
	return next
}

// sendDelayed sends the delayed nacks that are due, and returns when the next one is due.
func (lp *subscriberLoop) sendDelayed(now time.Time) (next time.Time) {
	due, next := lp.sub.ledger.Due(now)
	lp.sendNow(due)
	return next
}

// checkEvery is the longest time between two reads of the consumer. A changed ack_wait takes effect within that time.
const checkEvery = time.Minute

// aboutAMinute returns checkEvery less a random part, so that Subscribers that start together do not read together.
func aboutAMinute() time.Duration { return checkEvery - rand.N(checkEvery/10) }

// check is the outcome of reading the consumer again.
type check struct {
	consumer  *Consumer
	available availableMessage
	err       error
}

// stall is what the loop knows about a message that is available and that the server does not deliver.
type stall struct {
	since                time.Time // of the last check
	received, emptyPolls uint64    // the counts at that time
	available            availableMessage
	logged               bool // since the last message was received
}

// checkWhenDue starts a check that is due, and returns when the next one is, the zero time if no timer is needed. A sink has
// nothing to read: the server does not tell its ack_wait.
func (lp *subscriberLoop) checkWhenDue(now time.Time) (next time.Time) {
	if lp.checking || lp.sub.origin.sink != "" {
		return time.Time{}
	}
	if now.Before(lp.nextCheck) {
		return lp.nextCheck
	}
	lp.startCheck()
	return time.Time{}
}

// startCheck reads the consumer. If the Subscriber asked for messages since the last check and got none, it also looks for a
// message that the consumer could deliver.
func (lp *subscriberLoop) startCheck() {
	lp.checking = true
	look := lp.mayBeStalled()
	s := lp.sub
	go func() {
		at := s.origin.path
		j, err := callOnce[consumerJSON](s.soft, s.client, at)
		if err != nil {
			lp.checks <- check{err: err}
			return
		}
		c := check{consumer: j.consumer()}
		if look {
			c.available = s.client.firstAvailable(s.soft, at+"/messages")
		}
		lp.checks <- c
	}()
}

// mayBeStalled reports whether the Subscriber asked for messages since the last check, and got none.
func (lp *subscriberLoop) mayBeStalled() bool {
	counts, was := &lp.sub.counts, lp.stall
	if was.logged || counts.received.Load() != was.received {
		return false
	}
	waits := func(p *receiving) bool { return p.wait > 0 && p.started.Before(was.since) }
	return counts.emptyPolls.Load() != was.emptyPolls || slices.ContainsFunc(lp.receives, waits)
}

// noteStall logs once that a message was available at the last check, still is, and was not delivered to anybody meanwhile. A
// message that is seen once may have been sent at that moment.
func (lp *subscriberLoop) noteStall(now time.Time, c check) {
	was := lp.stall
	lp.stall = stall{since: now, received: lp.sub.counts.received.Load(), emptyPolls: lp.sub.counts.emptyPolls.Load(), available: c.available}
	if lp.stall.received != was.received {
		return
	}
	lp.stall.logged = was.logged
	if c.available != (availableMessage{}) && c.available == was.available {
		lp.stall.logged = true
		lp.sub.log.Add(slog.LevelWarn, "receives nothing although a message is available: max_ack_pending is probably reached, by deliveries that are "+
			"not settled, by delayed messages or, on the 2024 server in the first five minutes of a consumer, by acked messages; set a larger ConsumerOptions.MaxAckPending",
			"key", c.available.key, "max_ack_pending", c.consumer.MaxAckPending)
	}
}

// handleCheck handles the outcome of a check. A single 404 does not stop the Subscriber, because it may come from a server
// that is being deployed, or from a proxy whose errors look like Sequin's. A second one does, unless a receive or a check
// succeeds in between.
func (lp *subscriberLoop) handleCheck(c check) {
	lp.checking = false
	lp.nextCheck = time.Now().Add(aboutAMinute())
	f := classify(c.err)
	switch {
	case c.err == nil:
		lp.missing, lp.failedChecks = false, 0
		lp.noteStall(time.Now(), c)
		if ackWait := c.consumer.AckWait; ackWait != 0 { // an answer without ack_wait changes nothing
			lp.fatal = checkLease(ackWait)
			lp.sub.setTerms(lease.NewTerms(ackWait, lp.sub.cfg.LeaseMargin))
		}
		lp.fatal = cmp.Or(lp.fatal, lp.sub.cfg.checkOrder(c.consumer.MaxAckPending))
	case f.kind == kindNotFound:
		if lp.missing {
			lp.fatal = c.err
		}
		lp.missing, lp.nextCheck = true, time.Now()
	default:
		lp.sub.counts.noteError(c.err)
		if lp.missing {
			lp.nextCheck = time.Now().Add(lp.sub.client.cfg.Retry.wait(lp.failedChecks, c.err))
			lp.failedChecks++
		}
	}
}

// settles counts the settles that the server has confirmed.
func (lp *subscriberLoop) settles() uint64 {
	return lp.sub.counts.acked.Load() + lp.sub.counts.nacked.Load()
}

// unavailable tells that receives fail.
func (lp *subscriberLoop) unavailable(err error) {
	lp.sub.changed(StateInfo{State: StateUnavailable, Err: err})
	lp.sub.log.Add(slog.LevelWarn, "could not receive, and retries", "error", err)
}

// availableAgain tells that a receive has succeeded after others had failed.
func (lp *subscriberLoop) availableAgain(lasted time.Duration, failures int) {
	lp.sub.changed(StateInfo{State: StateUnavailable, Over: true, For: lasted})
	lp.sub.log.Add(slog.LevelInfo, "receives again", "failures", failures, "for", lasted)
}

// moveFreshestFirst swaps a delivery whose message has never failed to the front, because it is the better probe.
func (lp *subscriberLoop) moveFreshestFirst(got []Delivery) {
	i := slices.IndexFunc(got, func(d Delivery) bool { return lp.sub.failures.Get(failureID(d)).Failures == 0 })
	if i > 0 {
		got[0], got[i] = got[i], got[0]
	}
}
