package sequin

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// poll is a receive that runs.
type poll struct {
	asked    int
	round    int           // of the window
	wait     time.Duration // 0 does not wait
	started  time.Time
	into     []Delivery // empty: the room of an earlier answer, to be used again
	cancel   context.CancelFunc
	answered atomic.Bool // the answer has begun to arrive
}

// answer is what became of a poll.
type answer struct {
	poll        *poll
	lease       *lease
	deliveries  []Delivery
	knowsWaited bool
	err         error
}

// startPolls starts the receives that may run now, and returns when to look again.
func (lp *subscriberLoop) startPolls(now time.Time) (next time.Time) {
	for {
		if open, until := lp.sub.breaker.Open(); open {
			return lp.probe(now, until)
		}
		switch {
		case len(lp.polls) > 0 && (!lp.full || len(lp.polls) >= lp.sub.cfg.Pollers):
			return now.Add(never) // their answers come
		case now.Before(lp.nextPoll):
			return lp.nextPoll
		}
		ask := lp.window.ask(lp.spare())
		busy := len(lp.polls) > 0 || len(lp.sub.deliveries) > 0
		if ask < 1 || busy && lp.window.small(ask) {
			// A settle or the end of a lease makes room, an answer is an event, and the channel is gauged while it
			// holds anything.
			lp.setFull(ask < 1 && len(lp.polls) == 0)
			return now.Add(never)
		}
		lp.startPoll(now, ask)
	}
}

// startPoll starts a receive. One of those that run may wait at the server.
func (lp *subscriberLoop) startPoll(now time.Time, ask int) {
	lp.setFull(false)
	p := &poll{asked: ask, round: lp.window.round, started: now}
	if !slices.ContainsFunc(lp.polls, func(p *poll) bool { return p.wait > 0 }) {
		p.wait = lp.waitFor(now)
	}
	if n := len(lp.used); n > 0 {
		p.into, lp.used = lp.used[n-1], lp.used[:n-1]
	}
	ctx, cancel := context.WithCancel(lp.sub.hard)
	p.cancel = cancel
	lp.polls = append(lp.polls, p)
	go lp.receive(ctx, p, lp.sub.terms())
}

// spare is the room that is neither taken nor reserved. What is held back, or leaves as a dead letter, waits for nobody to
// take it: it takes up MaxInFlight, and not the window, which it would fill for as long as a program is slow.
func (lp *subscriberLoop) spare() int {
	room := max(lp.window.size, int(lp.sub.minWindow.Load()))
	lp.sub.mu.Lock()
	defer lp.sub.mu.Unlock()
	room = min(room+len(lp.sub.held)+lp.sub.leaving, lp.sub.cfg.MaxInFlight) - lp.sub.inFlight
	for _, p := range lp.polls {
		room -= p.asked
	}
	return room
}

// waitFor is how long the next receive may wait. Without the server's word how long it waited, all of the wait counts
// against the lease: a third of it is what can be spared.
func (lp *subscriberLoop) waitFor(now time.Time) time.Duration {
	wait := lp.sub.cfg.WaitFor
	if !lp.knowsWaited {
		wait = min(wait, (lp.sub.terms().ackWait / 3).Truncate(time.Millisecond))
	}
	if lp.refusesWait || now.Before(lp.noWaitUntil) || wait < minWaitFor {
		return 0
	}
	return wait
}

// waitedHeader tells how long the server waited before it handed the messages out, in milliseconds, rounded down.
const waitedHeader = "Sequin-Waited-Ms"

// receive makes one receive and reports it.
func (lp *subscriberLoop) receive(ctx context.Context, p *poll, terms leaseTerms) {
	defer p.cancel()
	a := answer{poll: p, deliveries: p.into}
	var states stateBlock
	sorted := true
	decoder := wire.Decoder{Bare: true, Each: func(m *wire.Message) {
		if last := len(a.deliveries) - 1; last >= 0 && a.deliveries[last].Seq > m.Seq {
			sorted = false
		}
		a.deliveries = append(a.deliveries, Delivery{Key: m.Key, Data: m.Data, Seq: m.Seq, InsertedAt: m.InsertedAt,
			UpdatedAt: m.UpdatedAt, AckID: m.AckID, Deadline: a.lease.deadline, Attempt: m.DeliverCount,
			Acknowledger: lp.sub.settler, state: states.next(a.lease)})
	}}
	r := receiveRequest(lp.sub.stream, lp.sub.consumer, ReceiveOptions{BatchSize: p.asked, WaitFor: p.wait})
	r.onAnswer = func() { p.answered.Store(true) }
	sent := time.Now()
	a.err = lp.sub.client.do(ctx, r, func(h http.Header, body []byte) error {
		arrived := time.Now()
		ms, err := strconv.ParseInt(h.Get(waitedHeader), 10, 32)
		a.knowsWaited = err == nil && ms >= 0
		waited := time.Duration(0)
		if a.knowsWaited {
			waited = min(time.Duration(ms)*time.Millisecond, arrived.Sub(sent))
		}
		a.lease = newLease(sent, waited, arrived, terms, lp.sub.terms(), lp.sub.hard)
		return decoder.Decode(body)
	})
	// Within an answer by seq: the 2024 server promises no order, and hands a batch out in reverse.
	if !sorted {
		slices.SortStableFunc(a.deliveries, func(x, y Delivery) int { return cmp.Compare(x.Seq, y.Seq) })
	}
	lp.answers <- a // has room for every poller
}

// take deals with an answer.
func (lp *subscriberLoop) take(a answer) {
	now := time.Now()
	lp.book(a)
	defer lp.reuse(a.deliveries)
	if a.err != nil {
		lp.failed(now, a)
		return
	}
	lp.failures, lp.knowsWaited = 0, a.knowsWaited
	lp.full = len(a.deliveries) >= a.poll.asked
	if len(a.deliveries) == 0 {
		lp.sub.counts.emptyPolls.Add(1)
		early := a.poll.wait > 0 && now.Sub(a.poll.started) < a.poll.wait/2
		if early || lp.waitFor(now) == 0 {
			lp.backOff(now)
		} else {
			lp.empties, lp.nextPoll = 0, now
		}
		return
	}
	lp.empties, lp.nextPoll = 0, now
	a.lease.round, a.lease.behind, a.lease.settles = a.poll.round, lp.handed(), lp.sub.tempo.settles.Load()
	a.lease.limits = lp.full && lp.window.small(lp.window.ask(lp.spare()))
	late := past(now, a.lease.near)
	open, _ := lp.sub.breaker.Open()
	if open {
		lp.sub.freshest(a.deliveries)
	}
	for i := range a.deliveries {
		// A server that hands out more than it was asked for must not cost more than was reserved; an answer that
		// travelled too long is not worth handing over; and handlers that do nothing but fail get a probe alone.
		if d := &a.deliveries[i]; i >= a.poll.asked || late || open && !lp.sub.breaker.Try(d.state, now, d.state.lease.near) {
			lp.sub.settler.returnDelivery(*d)
		} else {
			lp.push(d)
		}
	}
}

// reuse keeps the room of an answer for the next one, and nothing that is in it.
func (lp *subscriberLoop) reuse(deliveries []Delivery) {
	clear(deliveries)
	lp.used = append(lp.used, deliveries[:0])
}

// book closes a poll's account: its reservation gives way to what it brought. What an answer that was lost had brought is
// not known, and not counted: nobody here has it.
func (lp *subscriberLoop) book(a answer) {
	lp.polls = slices.DeleteFunc(lp.polls, func(p *poll) bool { return p == a.poll })
	lp.sub.counts.polls.Add(1)
	n := len(a.deliveries)
	if a.err != nil || n == 0 {
		return
	}
	lp.sub.counts.received.Add(uint64(n))
	lp.sub.mu.Lock()
	defer lp.sub.mu.Unlock()
	a.lease.room, a.lease.open = n, n
	lp.sub.inFlight += n
	lp.sub.leases.add(a.lease)
}

// backOff pauses after an answer that brought nothing and did not wait for anything.
func (lp *subscriberLoop) backOff(now time.Time) {
	pause := lp.sub.cfg.PollMax
	if lp.empties < 32 && lp.sub.cfg.PollMin<<lp.empties > 0 {
		pause = min(lp.sub.cfg.PollMin<<lp.empties, lp.sub.cfg.PollMax)
	}
	lp.empties++
	lp.nextPoll = now.Add(pause/2 + rand.N(pause/2+1))
}

// failed deals with a receive that failed. Only what will not pass by itself ends the Subscriber.
func (lp *subscriberLoop) failed(now time.Time, a answer) {
	lp.full = false
	f := classify(a.err)
	switch {
	case a.poll.wait > 0 && f.status() == http.StatusBadRequest && strings.Contains(f.api.Summary, "wait_for"):
		lp.refusesWait, lp.nextPoll = true, now
		lp.sub.log(slog.LevelInfo, "polls, because the server does not wait", "error", a.err)
		return
	case f.kind == kindRateLimited && a.poll.wait > 0:
		// More receives wait than max_waiting allows. Somebody else gets the messages first; take part without waiting,
		// and look for a free place now and then.
		lp.noWaitUntil = now.Add(10*time.Second + rand.N(10*time.Second))
		lp.backOff(now)
		if until := now.Add(min(f.api.retryAfter, lp.sub.client.cfg.Retry.MaxWait)); until.After(lp.nextPoll) {
			lp.nextPoll = until
		}
		return
	case f.kind == kindUnauthorized:
		lp.fatal = a.err
	case f.kind == kindNotFound && f.explained():
		lp.missing, lp.nextCheck = true, now
	case f.kind == kindTooLong:
		lp.window.tooLarge(a.poll.asked)
	}
	lp.sub.counts.note(a.err)
	lp.nextPoll = now.Add(lp.sub.client.cfg.Retry.wait(lp.failures, a.err))
	lp.failures++
	lp.sub.log(slog.LevelWarn, "could not receive", "failures", lp.failures, "next in", lp.nextPoll.Sub(now), "error", a.err)
}

// probe starts the receive of a probe, when one is due, and returns when to look again.
func (lp *subscriberLoop) probe(now, until time.Time) (next time.Time) {
	lp.sub.mu.Lock()
	room := lp.sub.cfg.MaxInFlight - lp.sub.inFlight
	lp.sub.mu.Unlock()
	switch {
	case len(lp.polls) > 0 || room < 1:
		return now.Add(never) // an answer, or room, is an event
	case now.Before(until):
		return until
	case now.Before(lp.nextPoll):
		return lp.nextPoll
	}
	lp.startPoll(now, min(room, lp.sub.breaker.ProbeSize(), MaxBatch)) // all the room: no other receive runs beside it
	return now.Add(never)
}
