package sequin

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
)

// subscriberLoop is the goroutine that a Subscriber has for as long as it runs. It decides when to receive, is the only
// sender on the channel, and stops the Subscriber. Its fields are used by this goroutine alone, and so need no lock.
// Receives and reads of the consumer run on goroutines of their own, which report to it by its channels.
type subscriberLoop struct {
	sub     *Subscriber
	answers chan answer
	checks  chan check
	timer   *time.Timer
	polls   []*poll // that run
	window  flow.Window
	wait    flow.Wait

	prefetched []*fetched   // those with deliveries in the channel, in its order
	unused     [][]Delivery // of earlier answers, for later ones; no more than there were receives at once

	more        bool      // the last receive returned as many messages as it asked for
	knowsWaited bool      // the last answer told how long the server had waited
	refusesWait bool      // the server does not know wait_for
	noWaitUntil time.Time // too many receives are waiting already
	nextPoll    time.Time
	empties     int // answers in a row after which the loop paused
	failures    int // receives in a row that failed

	failingSince time.Time // the first of them
	refusedSince time.Time // the first of those in a row that Sequin refused with 401 or 403

	nextCheck    time.Time
	checking     bool
	missing      bool // the consumer was not found, once
	failedChecks int  // since then
	fatal        error
}

func newSubscriberLoop(s *Subscriber) *subscriberLoop {
	return &subscriberLoop{sub: s, answers: make(chan answer, s.cfg.Pollers), checks: make(chan check, 1), timer: time.NewTimer(0),
		window:    flow.NewWindow(s.cfg.MaxInFlight, s.cfg.Pollers, MaxBatch, &s.times),
		nextCheck: time.Now().Add(aboutAMinute())}
}

func (lp *subscriberLoop) run() {
	for lp.sub.soft.Err() == nil && lp.fatal == nil {
		lp.look(time.Now())
		select {
		case a := <-lp.answers:
			lp.take(a)
		case c := <-lp.checks:
			lp.takeCheck(c)
		case <-lp.sub.wakeups:
		case <-lp.timer.C:
		case <-lp.sub.soft.Done():
		}
	}
	lp.shutDown()
}

// never is how long to wait if only an event can change anything.
const never = time.Hour

// look does what is due at now, and sets the timer to when something is due next.
func (lp *subscriberLoop) look(now time.Time) {
	next := now.Add(never)
	soonest := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	lp.dropTaken(now)
	if by := lp.handOverBy(); !by.IsZero() && lease.Past(now, by) {
		lp.recall(now)
	}
	if by := lp.handOverBy(); !by.IsZero() {
		lp.sub.buffer.look(now, lp.taken(), lp.sub.times.Count(), lp.sub.mode.Load() == modeHandlers)
		soonest(by)
		soonest(now.Add(lp.sub.buffer.pause(lp.window.Sample(lp.sub.buffer.len()))))
	}
	if f := lp.sub.late.Swap(nil); f != nil {
		lp.window.Late(&f.batch)
	}
	soonest(lp.expire(now))
	soonest(lp.sendDelayed(now))
	soonest(lp.startPolls(now))
	if !lp.checking && !now.Before(lp.nextCheck) {
		lp.startCheck()
	}
	if !lp.checking {
		soonest(lp.nextCheck)
	}
	lp.timer.Reset(time.Until(next))
}

// taken is how many deliveries have left the channel, including those that were recalled.
func (lp *subscriberLoop) taken() uint64 {
	return lp.sub.counts.buffered.Load() - uint64(lp.sub.buffer.len())
}

// dropTaken forgets what was fetched once its last delivery has left the channel.
func (lp *subscriberLoop) dropTaken(now time.Time) {
	taken := lp.taken()
	n := 0
	for n < len(lp.prefetched) && lp.prefetched[n].last <= taken {
		lp.window.Taken(now, &lp.prefetched[n].batch)
		lp.prefetched[n] = nil
		n++
	}
	lp.prefetched = lp.prefetched[n:]
}

// handOverBy returns when the first delivery in the channel is to be recalled, the zero time if there is none. Two
// receives may be answered in another order than they were made in, so that it need not be the first in the channel.
func (lp *subscriberLoop) handOverBy() (first time.Time) {
	for _, f := range lp.prefetched {
		if by := f.lease.HandOverBy; first.IsZero() || by.Before(first) {
			first = by
		}
	}
	return first
}

// push adds deliveries to the buffer.
func (lp *subscriberLoop) push(now time.Time, ds []Delivery) {
	if len(ds) == 0 {
		return
	}
	lp.sub.buffer.add(now, ds)
	before := lp.sub.counts.buffered.Add(uint64(len(ds))) - uint64(len(ds))
	for i := range ds {
		f := ds[i].state.fetched
		f.last = before + uint64(i) + 1
		if n := len(lp.prefetched); n == 0 || lp.prefetched[n-1] != f {
			lp.prefetched = append(lp.prefetched, f)
		}
	}
}

// recall empties the buffer, returns the deliveries whose leases are nearly over, and sends the others again, in order.
func (lp *subscriberLoop) recall(now time.Time) {
	taken, was := lp.taken(), lp.prefetched
	all := lp.drainBuffer()
	lp.prefetched = nil
	fresh := all[:0]
	for _, d := range all {
		if lease.Past(now, d.state.fetched.lease.HandOverBy) {
			lp.sub.settler.returnDelivery(d)
		} else {
			fresh = append(fresh, d)
		}
	}
	late := len(all) - len(fresh)
	lp.push(now, fresh)
	if late == 0 {
		return
	}
	lp.sub.counts.expired.Add(uint64(late))
	for _, f := range was {
		if lease.Past(now, f.lease.HandOverBy) {
			lp.window.Expired(now, &f.batch, taken-min(taken, f.takenBefore))
		}
	}
	lp.sub.log(slog.LevelWarn, "returned deliveries that were not read in time", "deliveries", late, "window", lp.window.Size())
}

// drainBuffer takes back the deliveries that the program has not read.
func (lp *subscriberLoop) drainBuffer() []Delivery {
	all := lp.sub.buffer.drain()
	lp.sub.counts.recalled.Add(uint64(len(all)))
	return all
}

// expire frees the room of leases that are over, and returns when the next one is.
func (lp *subscriberLoop) expire(now time.Time) (next time.Time) {
	unsettled, next := lp.sub.ledger.Expire(now)
	for _, f := range unsettled {
		if lp.sub.buffer.len() == 0 {
			lp.window.Unsettled(&f.batch)
		}
	}
	if p := lp.sub.handlers.Load(); p != nil && len(unsettled) > 0 {
		p.logHanging(now)
	}
	return next
}

// sendDelayed sends the delayed nacks that are due, and returns when the next one is.
func (lp *subscriberLoop) sendDelayed(now time.Time) (next time.Time) {
	due, next := lp.sub.ledger.Due(now)
	lp.sendNow(due)
	return next
}

// sendNow sends nacks that were delayed.
func (lp *subscriberLoop) sendNow(nacks []lease.Delayed[settling]) {
	for _, n := range nacks {
		_ = lp.sub.settler.nack(n.Item, time.Time{}, 0) // ErrClosed comes after finish, which this goroutine calls last
	}
}

// checkEvery is how often the consumer is read again: a changed ack_wait takes effect that late at most.
const checkEvery = time.Minute

// aboutAMinute keeps Subscribers that started together from reading together.
func aboutAMinute() time.Duration { return checkEvery - rand.N(checkEvery/10) }

// check is the outcome of reading the consumer again.
type check struct {
	consumer *Consumer
	err      error
}

func (lp *subscriberLoop) startCheck() {
	lp.checking = true
	s := lp.sub
	go func() {
		j, err := callOnce[consumerJSON](s.soft, s.client, path("api", "streams", s.stream, "consumers", s.consumer))
		if err != nil {
			lp.checks <- check{err: err}
			return
		}
		lp.checks <- check{consumer: j.consumer()}
	}()
}

// takeCheck handles the outcome of a check. A 404 counts only if it comes twice: a server that is being deployed, or a
// proxy whose errors have a summary too, may give one.
func (lp *subscriberLoop) takeCheck(c check) {
	lp.checking = false
	lp.nextCheck = time.Now().Add(aboutAMinute())
	f := classify(c.err)
	switch {
	case c.err == nil:
		lp.missing, lp.failedChecks = false, 0
		if ackWait := c.consumer.AckWait; ackWait != 0 { // an answer that does not tell it changes nothing
			lp.fatal = checkLease(ackWait)
			lp.sub.setTerms(ackWait)
		}
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

// removePoll removes a poll that has ended.
func (lp *subscriberLoop) removePoll(p *poll) {
	lp.polls = slices.DeleteFunc(lp.polls, func(o *poll) bool { return o == p })
}
