package sequin

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// intake is the one goroutine of a Subscriber that stays: it decides when to receive, is the channel's only sender, and
// winds the Subscriber up. What it knows needs no lock; receives run on goroutines of their own and report to it.
type intake struct {
	*Subscriber
	answers chan answer
	checks  chan check
	timer   *time.Timer
	polls   []*poll
	window  window

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
	fatal     error
}

// poll is a receive that runs.
type poll struct {
	asked   int
	wait    time.Duration // 0 does not wait
	started time.Time
	cancel  context.CancelFunc
}

// answer is what became of a poll.
type answer struct {
	poll        *poll
	lease       *lease
	deliveries  []Delivery
	knowsWaited bool
	err         error
}

// check is a look at the consumer.
type check struct {
	consumer *Consumer
	err      error
}

const (
	// checkEvery is how often the consumer is read again: a changed ack_wait takes effect that late at most.
	checkEvery = time.Minute
	// cutLongAfter and cutShortAfter are how long a stop lets a receive finish. One in a long poll that has not been
	// answered for 100 ms is waiting for a message, and cutting it loses nothing in all likelihood; any other is being
	// answered now, and cutting it would leave what it brings to the end of the lease.
	cutLongAfter  = 100 * time.Millisecond
	cutShortAfter = 2 * time.Second
)

func newIntake(s *Subscriber) *intake {
	return &intake{Subscriber: s, answers: make(chan answer, s.cfg.Pollers), checks: make(chan check, 1),
		timer: time.NewTimer(0), window: newWindow(s.cfg), nextCheck: time.Now().Add(aboutAMinute())}
}

// aboutAMinute keeps Subscribers that started together apart.
func aboutAMinute() time.Duration { return checkEvery - rand.N(checkEvery/10) }

func (in *intake) run() {
	for in.stop.Err() == nil && in.fatal == nil {
		in.look(time.Now())
		select {
		case a := <-in.answers:
			in.take(a)
		case c := <-in.checks:
			in.judge(c)
		case <-in.kick:
		case <-in.timer.C:
		case <-in.stop.Done():
		}
	}
	in.wind()
}

// look does whatever is due at now, and sets the timer to when something is due next.
func (in *intake) look(now time.Time) {
	next := now.Add(time.Hour)
	soonest := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if near, ok := in.nearest(); ok && past(now, near) {
		in.takeBack(now)
	}
	if near, ok := in.nearest(); ok {
		soonest(near)
	}
	soonest(in.expire(now))
	soonest(in.sendHeld(now))
	in.window.observe(now, in.handed(), in.terms())
	soonest(in.startPolls(now))
	if !in.checking && !now.Before(in.nextCheck) {
		in.startCheck()
	}
	if !in.checking {
		soonest(in.nextCheck)
	}
	in.timer.Reset(time.Until(next))
}

// handed is where, in the order of handing over, the channel begins: what stands before it has left.
func (in *intake) handed() uint64 { return in.counts.pushed.Load() - uint64(len(in.deliveries)) }

// nearest returns when the first lease in the channel comes near its end.
func (in *intake) nearest() (near time.Time, ok bool) {
	handed := in.handed()
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, l := range in.leases {
		if l.to > handed && (!ok || l.near.Before(near)) {
			near, ok = l.near, true
		}
	}
	return near, ok
}

// expire gives back the room of leases that are over, and forgets those that have none. It returns when the next one ends.
func (in *intake) expire(now time.Time) (next time.Time) {
	next = now.Add(time.Hour)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.leases = slices.DeleteFunc(in.leases, func(l *lease) bool {
		if l.open > 0 && past(now, l.deadline) {
			in.inFlight -= l.open
			l.ended = true
		}
		return l.open == 0 || l.ended
	})
	if len(in.leases) > 0 {
		next = in.leases[0].deadline
	}
	return next
}

// sendHeld sends the held nacks that are due, and returns when the next one is.
func (in *intake) sendHeld(now time.Time) (next time.Time) {
	in.mu.Lock()
	due, _ := slices.BinarySearchFunc(in.heldAt, now, func(at, now time.Time) int {
		if at.After(now) {
			return 1
		}
		return -1
	})
	ready := slices.Clone(in.held[:due])
	in.held, in.heldAt = slices.Delete(in.held, 0, due), slices.Delete(in.heldAt, 0, due)
	next = now.Add(time.Hour)
	if len(in.heldAt) > 0 {
		next = in.heldAt[0]
	}
	in.mu.Unlock()
	for _, x := range ready {
		_ = in.settler.nack(x, now, 0) // closed only by wind, which runs on this goroutine
	}
	return next
}

// takeBack empties the channel, gives back what is near the end of its lease, and sends the rest again, in order.
func (in *intake) takeBack(now time.Time) {
	var all []Delivery
	for more := true; more; {
		select {
		case d := <-in.deliveries:
			all = append(all, d)
		default:
			more = false
		}
	}
	in.counts.takenBack.Add(uint64(len(all)))
	late := 0
	for _, d := range all {
		if past(now, d.state.lease.near) {
			late++
			in.settler.giveBack(d)
			continue
		}
		in.push(d)
	}
	if late > 0 {
		in.counts.expired.Add(uint64(late))
		in.window.shrink(now, in.terms())
		in.log(slog.LevelWarn, "gives back what nobody took in time", "deliveries", late, "receives next", in.window.ask())
	}
}

// push hands d over. It has room: the channel holds MaxInFlight, and whatever is in it is in flight.
func (in *intake) push(d Delivery) {
	select {
	case in.deliveries <- d:
		d.state.lease.to = in.counts.pushed.Add(1)
	default:
		in.settler.giveBack(d)
	}
}

// startPolls starts the receives that may run now, and returns when to look again.
func (in *intake) startPolls(now time.Time) (next time.Time) {
	for {
		waiting := slices.ContainsFunc(in.polls, func(p *poll) bool { return p.wait > 0 })
		switch {
		case len(in.polls) > 0 && (!in.full || len(in.polls) >= in.cfg.Pollers):
			return now.Add(time.Hour) // their answers come
		case now.Before(in.nextPoll):
			return in.nextPoll
		}
		reserved := 0
		for _, p := range in.polls {
			reserved += p.asked
		}
		in.mu.Lock()
		room := in.cfg.MaxInFlight - in.inFlight - reserved
		in.mu.Unlock()
		buffered := len(in.deliveries)
		ask := min(in.window.ask(), room)
		switch {
		case ask < 1, len(in.polls) > 0 && ask < in.window.ask()/2:
			return now.Add(time.Hour) // a settle or the end of a lease makes room, and either is an event
		case buffered > 0 && buffered+reserved+ask > in.window.size:
			return now.Add(in.window.gauge(buffered))
		}
		p := &poll{asked: ask, started: now}
		if !waiting {
			p.wait = in.waitFor(now)
		}
		ctx, cancel := context.WithCancel(in.cut)
		p.cancel = cancel
		in.polls = append(in.polls, p)
		go in.receive(ctx, p, in.terms())
	}
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
	a := answer{poll: p}
	var states stateBlock
	decoder := receivedDecoder{bare: true, each: func(m *ReceivedMessage) {
		a.deliveries = append(a.deliveries, Delivery{Key: m.Key, Data: m.Data, Seq: m.Seq, InsertedAt: m.InsertedAt,
			UpdatedAt: m.UpdatedAt, AckID: m.AckID, Deadline: a.lease.deadline, Attempt: m.DeliverCount,
			Acknowledger: in.settler, state: states.next(a.lease)})
	}}
	sent := time.Now()
	opts := ReceiveOptions{BatchSize: p.asked, WaitFor: p.wait}
	a.err = in.client.receive(ctx, in.stream, in.consumer, opts, once, func(h http.Header, body []byte) error {
		ms, err := strconv.ParseInt(h.Get(waitedHeader), 10, 32)
		a.knowsWaited = err == nil && ms >= 0
		waited := time.Duration(0)
		if a.knowsWaited {
			waited = min(time.Duration(ms)*time.Millisecond, time.Since(sent))
		}
		a.lease = newLease(sent, waited, terms, in.cut)
		return decoder.decode(body)
	})
	// Within an answer by seq: the 2024 server promises no order, and hands a batch out in reverse.
	bySeq := func(x, y Delivery) int { return int(x.Seq - y.Seq) }
	if !slices.IsSortedFunc(a.deliveries, bySeq) {
		slices.SortStableFunc(a.deliveries, bySeq)
	}
	in.answers <- a // has room for every poller
}

// take deals with an answer.
func (in *intake) take(a answer) {
	now := time.Now()
	in.book(a)
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
	for i, d := range a.deliveries {
		// A server that hands out more than it was asked for must not cost more than was reserved; and an answer that
		// travelled too long is not worth handing over.
		if i >= a.poll.asked || past(now, a.lease.near) {
			in.settler.giveBack(d)
			continue
		}
		in.push(d)
	}
	if a.poll.asked >= in.window.ask() && in.full {
		in.window.filled(now, in.counts.pushed.Load())
	}
}

// book closes a poll's account: its reservation gives way to what it brought.
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
	a.lease.open = n
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
		return
	case errors.Is(a.err, ErrUnauthorized):
		in.fatal = a.err
	case errors.Is(a.err, ErrNotFound) && api.Summary != "":
		in.missing, in.nextCheck = true, now
	case errors.Is(a.err, ErrResponseTooLarge):
		in.window.shrink(now, in.terms())
	}
	in.counts.note(a.err)
	in.nextPoll = now.Add(in.client.cfg.Retry.wait(in.failures, a.err))
	in.failures++
	in.log(slog.LevelWarn, "could not receive", "failures", in.failures, "next in", in.nextPoll.Sub(now), "error", a.err)
}

func (in *intake) startCheck() {
	in.checking = true
	ctx := in.stop
	go func() {
		j, err := callOnce[consumerJSON](ctx, in.client, path("api", "streams", in.stream, "consumers", in.consumer))
		if err != nil {
			in.checks <- check{err: err}
			return
		}
		in.checks <- check{consumer: j.consumer()}
	}()
}

// judge deals with a look at the consumer. A 404 counts only when it comes twice: a server that is being deployed, or a
// proxy with a summary of its own, may give one.
func (in *intake) judge(c check) {
	in.checking = false
	in.nextCheck = time.Now().Add(aboutAMinute())
	var api *APIError
	switch {
	case c.err == nil:
		in.missing = false
		in.fatal = checkLease(c.consumer.AckWait)
		in.setTerms(c.consumer.AckWait)
	case errors.Is(c.err, ErrUnauthorized):
		in.fatal = c.err
	case errors.As(c.err, &api) && api.Status == http.StatusNotFound && api.Summary != "":
		if in.missing {
			in.fatal = c.err
		}
		in.missing, in.nextCheck = true, time.Now()
	default:
		in.counts.note(c.err)
		if in.missing {
			in.nextCheck = time.Now().Add(in.client.cfg.Retry.wait(in.failures, c.err))
		}
	}
}
