package sequin

import (
	"log/slog"
	"math/rand/v2"
	"time"
)

// intake is the one goroutine of a Subscriber that stays: it decides when to receive, is the channel's only sender, and
// winds the Subscriber up. What it knows needs no lock; receives run on goroutines of their own and report to it.
type subscriberLoop struct {
	sub     *Subscriber
	answers chan answer
	checks  chan check
	timer   *time.Timer
	polls   []*poll
	window  window
	shelf   []*lease     // of what is in the channel, in its order
	used    [][]Delivery // the room of answers that were dealt with, no more than there were receives at once

	full        bool      // the last receive came back full
	knowsWaited bool      // the last answer told how long the server had waited
	refusesWait bool      // the server does not know wait_for
	noWaitUntil time.Time // too many receives are waiting already
	nextPoll    time.Time
	empties     int // answers in a row that were backed off
	failures    int // receives in a row that failed

	nextCheck time.Time
	checking  bool
	missing   bool // the consumer was not found, once
	blind     int  // looks that failed since
	fatal     error
}

func newSubscriberLoop(s *Subscriber) *subscriberLoop {
	return &subscriberLoop{sub: s, answers: make(chan answer, s.cfg.Pollers), checks: make(chan check, 1),
		timer: time.NewTimer(0), window: newWindow(s.cfg, &s.tempo), nextCheck: time.Now().Add(aboutAMinute())}
}

func (lp *subscriberLoop) run() {
	for lp.sub.soft.Err() == nil && lp.fatal == nil {
		lp.look(time.Now())
		select {
		case a := <-lp.answers:
			lp.take(a)
		case c := <-lp.checks:
			lp.judge(c)
		case <-lp.sub.wakeups:
		case <-lp.timer.C:
		case <-lp.sub.soft.Done():
		}
	}
	lp.shutDown()
}

// never is when to look again where only an event can change anything.
const never = time.Hour

// look does whatever is due at now, and sets the timer to when something is due next.
func (lp *subscriberLoop) look(now time.Time) {
	next := now.Add(never)
	soonest := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	lp.clearShelf(now)
	if near, ok := lp.nearest(); ok && past(now, near) {
		lp.takeBack(now)
	}
	if near, ok := lp.nearest(); ok {
		soonest(near)
		soonest(now.Add(lp.window.gauge(len(lp.sub.deliveries))))
	}
	if l := lp.sub.lateLease.Swap(nil); l != nil {
		lp.window.late(l)
	}
	soonest(lp.expire(now))
	soonest(lp.sendHeld(now))
	soonest(lp.startPolls(now))
	if !lp.checking && !now.Before(lp.nextCheck) {
		lp.startCheck()
	}
	if !lp.checking {
		soonest(lp.nextCheck)
	}
	lp.timer.Reset(time.Until(next))
}

// handed is where, in the order of handing over, the channel begins: what stands before it has left.
func (lp *subscriberLoop) handed() uint64 {
	return lp.sub.counts.pushed.Load() - uint64(len(lp.sub.deliveries))
}

// clearShelf drops the leases whose last message has left the channel.
func (lp *subscriberLoop) clearShelf(now time.Time) {
	handed := lp.handed()
	n := 0
	for n < len(lp.shelf) && lp.shelf[n].to <= handed {
		lp.window.taken(now, lp.shelf[n])
		lp.shelf[n] = nil
		n++
	}
	lp.shelf = lp.shelf[n:]
}

// nearest returns when the first lease in the channel comes near its end. Two receives may be answered in another order
// than they were made in, so it need not be the first of the shelf's.
func (lp *subscriberLoop) nearest() (near time.Time, ok bool) {
	for _, l := range lp.shelf {
		if !ok || l.near.Before(near) {
			near, ok = l.near, true
		}
	}
	return near, ok
}

// push hands d over. It has room: the channel holds MaxInFlight, and whatever is in it is in flight.
func (lp *subscriberLoop) push(d *Delivery) {
	select {
	case lp.sub.deliveries <- *d:
		l := d.state.lease
		l.to = lp.sub.counts.pushed.Add(1)
		if n := len(lp.shelf); n == 0 || lp.shelf[n-1] != l {
			lp.shelf = append(lp.shelf, l)
		}
	default:
		lp.sub.settler.returnDelivery(*d)
	}
}

// takeBack empties the channel, gives back what is near the end of its lease, and sends the rest again, in order.
func (lp *subscriberLoop) takeBack(now time.Time) {
	handed, was := lp.handed(), lp.shelf
	var all []Delivery
	for more := true; more; {
		select {
		case d := <-lp.sub.deliveries:
			all = append(all, d)
		default:
			more = false
		}
	}
	lp.sub.counts.takenBack.Add(uint64(len(all)))
	lp.shelf = nil
	late := 0
	for i := range all {
		if d := &all[i]; past(now, d.state.lease.near) {
			late++
			lp.sub.settler.returnDelivery(*d)
		} else {
			lp.push(d)
		}
	}
	if late == 0 {
		return
	}
	lp.sub.counts.expired.Add(uint64(late))
	for _, l := range was {
		if past(now, l.near) {
			l.shelved.Store(int64(now.Sub(l.began)))
			lp.window.expired(l, handed-min(handed, l.behind))
		}
	}
	lp.sub.log(slog.LevelWarn, "gives back what nobody took in time", "deliveries", late, "in flight at most", lp.window.size)
}

// expire gives back the room of leases that are over, and returns when the next one ends.
func (lp *subscriberLoop) expire(now time.Time) (next time.Time) {
	lp.sub.mu.Lock()
	defer lp.sub.mu.Unlock()
	for l := lp.sub.leases.first; l != nil; l = lp.sub.leases.first {
		if !past(now, l.until) {
			return l.until
		}
		if l.open > 0 && l.settles == lp.sub.tempo.settles.Load() && len(lp.sub.deliveries) == 0 {
			lp.window.stuck(l)
		}
		lp.sub.inFlight -= l.room
		l.room, l.open = 0, 0
		lp.sub.leases.remove(l)
	}
	return now.Add(never)
}

// sendHeld sends the held nacks that are due, and returns when the next one is.
func (lp *subscriberLoop) sendHeld(now time.Time) (next time.Time) {
	lp.sub.mu.Lock()
	due := 0
	for due < len(lp.sub.held) && !lp.sub.held[due].at.After(now) {
		due++
	}
	ready := lp.sub.held[:due:due]
	lp.sub.held = lp.sub.held[due:]
	next = now.Add(never)
	if len(lp.sub.held) > 0 {
		next = lp.sub.held[0].at
	}
	lp.sub.mu.Unlock()
	lp.sendNow(ready)
	return next
}

// sendNow sends nacks that were held.
func (lp *subscriberLoop) sendNow(held []heldNack) {
	for _, h := range held {
		_ = lp.sub.settler.nack(h.settling, time.Time{}, 0) // closed only by finish, which runs on this goroutine
	}
}

// checkEvery is how often the consumer is read again: a changed ack_wait takes effect that late at most.
const checkEvery = time.Minute

// check is a look at the consumer.
type check struct {
	consumer *Consumer
	err      error
}

// aboutAMinute keeps Subscribers that started together apart.
func aboutAMinute() time.Duration { return checkEvery - rand.N(checkEvery/10) }

func (lp *subscriberLoop) startCheck() {
	lp.checking = true
	go func() {
		j, err := callOnce[consumerJSON](lp.sub.soft, lp.sub.client, path("api", "streams", lp.sub.stream, "consumers", lp.sub.consumer))
		if err != nil {
			lp.checks <- check{err: err}
			return
		}
		lp.checks <- check{consumer: j.consumer()}
	}()
}

// judge deals with a look at the consumer. A 404 counts only when it comes twice: a server that is being deployed, or a
// proxy with a summary of its own, may give one.
func (lp *subscriberLoop) judge(c check) {
	lp.checking = false
	lp.nextCheck = time.Now().Add(aboutAMinute())
	f := classify(c.err)
	switch {
	case c.err == nil:
		lp.missing, lp.blind = false, 0
		lp.window.widen()
		if ackWait := c.consumer.AckWait; ackWait != 0 { // an answer that does not tell it changes nothing
			lp.fatal = checkLease(ackWait)
			lp.sub.setTerms(ackWait)
		}
	case f.kind == kindUnauthorized:
		lp.fatal = c.err
	case f.kind == kindNotFound && f.explained():
		if lp.missing {
			lp.fatal = c.err
		}
		lp.missing, lp.nextCheck = true, time.Now()
	default:
		lp.sub.counts.note(c.err)
		if lp.missing {
			lp.nextCheck = time.Now().Add(lp.sub.client.cfg.Retry.wait(lp.blind, c.err))
			lp.blind++
		}
	}
}
