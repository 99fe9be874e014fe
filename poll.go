package sequin

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
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
func (in *intake) startPolls(now time.Time) (next time.Time) {
	for {
		if slow, until := in.throttle.slow(); slow {
			return in.probe(now, until)
		}
		switch {
		case len(in.polls) > 0 && (!in.full || len(in.polls) >= in.cfg.Pollers):
			return now.Add(never) // their answers come
		case now.Before(in.nextPoll):
			return in.nextPoll
		}
		ask := in.window.ask(in.spare())
		busy := len(in.polls) > 0 || len(in.deliveries) > 0
		if ask < 1 || busy && in.window.small(ask) {
			// A settle or the end of a lease makes room, an answer is an event, and the channel is gauged while it
			// holds anything.
			in.setFull(ask < 1 && len(in.polls) == 0)
			return now.Add(never)
		}
		in.startPoll(now, ask)
	}
}

// startPoll starts a receive. One of those that run may wait at the server.
func (in *intake) startPoll(now time.Time, ask int) {
	in.setFull(false)
	p := &poll{asked: ask, round: in.window.round, started: now}
	if !slices.ContainsFunc(in.polls, func(p *poll) bool { return p.wait > 0 }) {
		p.wait = in.waitFor(now)
	}
	if n := len(in.used); n > 0 {
		p.into, in.used = in.used[n-1], in.used[:n-1]
	}
	ctx, cancel := context.WithCancel(in.cut)
	p.cancel = cancel
	in.polls = append(in.polls, p)
	go in.receive(ctx, p, in.terms())
}

// spare is the room that is neither taken nor reserved. What is held back, or leaves as a dead letter, waits for nobody to
// take it: it takes up MaxInFlight, and not the window, which it would fill for as long as a program is slow.
func (in *intake) spare() int {
	room := max(in.window.size, int(in.needs.Load()))
	in.mu.Lock()
	defer in.mu.Unlock()
	room = min(room+len(in.held)+in.leaving, in.cfg.MaxInFlight) - in.inFlight
	for _, p := range in.polls {
		room -= p.asked
	}
	return room
}

// waitFor is how long the next receive may wait. Without the server's word how long it waited, all of the wait counts
// against the lease: a third of it is what can be spared.
func (in *intake) waitFor(now time.Time) time.Duration {
	wait := in.cfg.WaitFor
	if !in.knowsWaited {
		wait = min(wait, (in.terms().ackWait / 3).Truncate(time.Millisecond))
	}
	if in.refusesWait || now.Before(in.noWaitUntil) || wait < minWaitFor {
		return 0
	}
	return wait
}

// waitedHeader tells how long the server waited before it handed the messages out, in milliseconds, rounded down.
const waitedHeader = "Sequin-Waited-Ms"

// receive makes one receive and reports it.
func (in *intake) receive(ctx context.Context, p *poll, terms leaseTerms) {
	defer p.cancel()
	a := answer{poll: p, deliveries: p.into}
	var states stateBlock
	sorted := true
	decoder := receivedDecoder{bare: true, each: func(m *ReceivedMessage) {
		if last := len(a.deliveries) - 1; last >= 0 && a.deliveries[last].Seq > m.Seq {
			sorted = false
		}
		a.deliveries = append(a.deliveries, Delivery{Key: m.Key, Data: m.Data, Seq: m.Seq, InsertedAt: m.InsertedAt,
			UpdatedAt: m.UpdatedAt, AckID: m.AckID, Deadline: a.lease.deadline, Attempt: m.DeliverCount,
			Acknowledger: in.settler, state: states.next(a.lease)})
	}}
	r := receiveRequest(in.stream, in.consumer, ReceiveOptions{BatchSize: p.asked, WaitFor: p.wait})
	r.answering = func() { p.answered.Store(true) }
	sent := time.Now()
	a.err = in.client.do(ctx, r, func(h http.Header, body []byte) error {
		arrived := time.Now()
		ms, err := strconv.ParseInt(h.Get(waitedHeader), 10, 32)
		a.knowsWaited = err == nil && ms >= 0
		waited := time.Duration(0)
		if a.knowsWaited {
			waited = min(time.Duration(ms)*time.Millisecond, arrived.Sub(sent))
		}
		a.lease = newLease(sent, waited, arrived, terms, in.terms(), in.cut)
		return decoder.decode(body)
	})
	// Within an answer by seq: the 2024 server promises no order, and hands a batch out in reverse.
	if !sorted {
		slices.SortStableFunc(a.deliveries, func(x, y Delivery) int { return cmp.Compare(x.Seq, y.Seq) })
	}
	in.answers <- a // has room for every poller
}

// take deals with an answer.
func (in *intake) take(a answer) {
	now := time.Now()
	in.book(a)
	defer in.reuse(a.deliveries)
	if a.err != nil {
		in.failed(now, a)
		return
	}
	in.failures, in.knowsWaited = 0, a.knowsWaited
	in.full = len(a.deliveries) >= a.poll.asked
	if len(a.deliveries) == 0 {
		in.counts.emptyPolls.Add(1)
		early := a.poll.wait > 0 && now.Sub(a.poll.started) < a.poll.wait/2
		if early || in.waitFor(now) == 0 {
			in.backOff(now)
		} else {
			in.empties, in.nextPoll = 0, now
		}
		return
	}
	in.empties, in.nextPoll = 0, now
	a.lease.round, a.lease.behind, a.lease.settles = a.poll.round, in.handed(), in.tempo.settles.Load()
	a.lease.limits = in.full && in.window.small(in.window.ask(in.spare()))
	in.throttle.best(a.deliveries)
	late := past(now, a.lease.near)
	slow, _ := in.throttle.slow()
	for i := range a.deliveries {
		// A server that hands out more than it was asked for must not cost more than was reserved; an answer that
		// travelled too long is not worth handing over; and handlers that do nothing but fail get a probe alone.
		if d := &a.deliveries[i]; i >= a.poll.asked || late || slow && !in.throttle.lets(*d, now) {
			in.settler.giveBack(*d)
		} else {
			in.push(d)
		}
	}
}

// reuse keeps the room of an answer for the next one, and nothing that is in it.
func (in *intake) reuse(deliveries []Delivery) {
	clear(deliveries)
	in.used = append(in.used, deliveries[:0])
}

// book closes a poll's account: its reservation gives way to what it brought. What an answer that was lost had brought is
// not known, and not counted: nobody here has it.
func (in *intake) book(a answer) {
	in.polls = slices.DeleteFunc(in.polls, func(p *poll) bool { return p == a.poll })
	in.counts.polls.Add(1)
	n := len(a.deliveries)
	if a.err != nil || n == 0 {
		return
	}
	in.counts.received.Add(uint64(n))
	in.mu.Lock()
	defer in.mu.Unlock()
	a.lease.room, a.lease.open = n, n
	in.inFlight += n
	in.leases.add(a.lease)
}

// backOff pauses after an answer that brought nothing and did not wait for anything.
func (in *intake) backOff(now time.Time) {
	pause := in.cfg.PollMax
	if in.empties < 32 && in.cfg.PollMin<<in.empties > 0 {
		pause = min(in.cfg.PollMin<<in.empties, in.cfg.PollMax)
	}
	in.empties++
	in.nextPoll = now.Add(pause/2 + rand.N(pause/2+1))
}

// failed deals with a receive that failed. Only what will not pass by itself ends the Subscriber.
func (in *intake) failed(now time.Time, a answer) {
	in.full = false
	var api *APIError
	isAPI := errors.As(a.err, &api)
	switch {
	case isAPI && a.poll.wait > 0 && api.Status == http.StatusBadRequest && strings.Contains(api.Summary, "wait_for"):
		in.refusesWait, in.nextPoll = true, now
		in.log(slog.LevelInfo, "polls, because the server does not wait", "error", a.err)
		return
	case errors.Is(a.err, ErrRateLimited) && a.poll.wait > 0:
		// More receives wait than max_waiting allows. Somebody else gets the messages first; take part without waiting,
		// and look for a free place now and then.
		in.noWaitUntil = now.Add(10*time.Second + rand.N(10*time.Second))
		in.backOff(now)
		if until := now.Add(min(api.retryAfter, in.client.cfg.Retry.MaxWait)); until.After(in.nextPoll) {
			in.nextPoll = until
		}
		return
	case errors.Is(a.err, ErrUnauthorized):
		in.fatal = a.err
	case errors.Is(a.err, ErrNotFound) && api.Summary != "":
		in.missing, in.nextCheck = true, now
	case errors.Is(a.err, ErrResponseTooLarge):
		in.window.tooLarge(a.poll.asked)
	}
	in.counts.note(a.err)
	in.nextPoll = now.Add(in.client.cfg.Retry.wait(in.failures, a.err))
	in.failures++
	in.log(slog.LevelWarn, "could not receive", "failures", in.failures, "next in", in.nextPoll.Sub(now), "error", a.err)
}
