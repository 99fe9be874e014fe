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

	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/wire"
)

// poll is a receive that runs.
type poll struct {
	asked    int           // how many messages it asks for
	limited  bool          // it would ask for more with a larger window
	round    int           // of the window
	wait     time.Duration // at the server; 0 does not wait
	started  time.Time
	into     []Delivery // empty: the slice of an earlier answer
	cancel   context.CancelFunc
	answered atomic.Bool // the answer has begun to arrive
}

// answer is the outcome of a poll.
type answer struct {
	poll        *poll
	fetched     *fetched
	deliveries  []Delivery
	knowsWaited bool
	err         error
}

// startPolls starts the receives that may run now, and returns when to look again, the zero time for never.
func (lp *subscriberLoop) startPolls(now time.Time) (next time.Time) {
	for {
		if open, until := lp.sub.breaker.Open(); open {
			return lp.startProbe(now, until)
		}
		switch {
		case len(lp.polls) > 0 && (!lp.more || len(lp.polls) >= lp.sub.cfg.Pollers):
			return time.Time{} // their answers are events
		case now.Before(lp.nextPoll):
			return lp.nextPoll
		}
		ask := lp.window.Ask(lp.room(lp.windowSize()))
		busy := len(lp.polls) > 0 || lp.sub.buffer.len() > 0
		if ask < 1 || busy && lp.window.Small(ask) {
			// Room, made by a settle or the end of a lease, and an answer are events; and the channel is sampled while it
			// holds anything.
			lp.setFull(ask < 1 && len(lp.polls) == 0)
			return time.Time{}
		}
		limited := ask < lp.window.Ask(lp.room(lp.sub.cfg.MaxInFlight))
		lp.startPoll(now, ask, limited)
	}
}

// startProbe starts the receive of a single message for handlers that do nothing but fail, if one is due. It returns when
// to look again, the zero time for never.
func (lp *subscriberLoop) startProbe(now, due time.Time) (next time.Time) {
	room := lp.sub.ledger.Room(lp.sub.cfg.MaxInFlight)
	switch {
	case len(lp.polls) > 0 || room < 1:
		return time.Time{} // an answer, or room, is an event
	case now.Before(due):
		return due
	case now.Before(lp.nextPoll):
		return lp.nextPoll
	}
	lp.startPoll(now, min(room, lp.sub.breaker.ProbeSize(), MaxBatch), false) // may take all the room: no other receive runs
	return time.Time{}
}

// startPoll starts a receive. One of those that run may wait at the server. limited says that it would ask for more with a
// larger window.
func (lp *subscriberLoop) startPoll(now time.Time, ask int, limited bool) {
	lp.setFull(false)
	p := &poll{asked: ask, limited: limited, round: lp.window.Round(), started: now}
	if !slices.ContainsFunc(lp.polls, func(p *poll) bool { return p.wait > 0 }) {
		p.wait = lp.waitFor(now)
	}
	if n := len(lp.unused); n > 0 {
		p.into, lp.unused = lp.unused[n-1], lp.unused[:n-1]
	}
	ctx, cancel := context.WithCancel(lp.sub.hard)
	p.cancel = cancel
	lp.polls = append(lp.polls, p)
	go lp.receive(ctx, p, *lp.sub.terms.Load())
}

// setFull notes whether nothing more can be received until there is room. The token lets the goroutine that collects a
// batch look whether that batch is complete, each time, because what takes up the room may have changed.
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

// windowSize is how many messages may be in flight now.
func (lp *subscriberLoop) windowSize() int {
	return max(lp.window.Size(), int(lp.sub.minWindow.Load()))
}

// room is how many messages a receive may ask for with a window of that size: those for which there is room, less those
// that other receives have asked for.
func (lp *subscriberLoop) room(window int) int {
	room := lp.sub.ledger.Room(window)
	for _, p := range lp.polls {
		room -= p.asked
	}
	return room
}

// waitFor is how long the next receive may wait at the server. If the server does not tell how long it waited, all of the
// wait counts against the lease, and a third of the lease is what can be spared.
func (lp *subscriberLoop) waitFor(now time.Time) time.Duration {
	wait := lp.sub.cfg.WaitFor
	if !lp.knowsWaited {
		wait = min(wait, (lp.sub.terms.Load().AckWait / 3).Truncate(time.Millisecond))
	}
	wait = lp.wait.Limit(now, wait)
	if lp.refusesWait || now.Before(lp.noWaitUntil) || wait < minWaitFor {
		return 0
	}
	return wait
}

// waitedHeader tells how long the server waited before it leased the messages, in milliseconds, rounded down.
const waitedHeader = "Sequin-Waited-Ms"

// fenced reports whether an answer announces that its ack ids belong to its deliveries alone. What other answers have
// announced does not count: those may be of another server.
func fenced(h http.Header) bool {
	bits, listed := extensionsIn(h)
	return listed && bits&fencedAcksBit != 0
}

// receive makes one receive and reports its outcome to the loop.
func (lp *subscriberLoop) receive(ctx context.Context, p *poll, terms lease.Terms) {
	defer p.cancel()
	s := lp.sub
	a := answer{poll: p, deliveries: p.into}
	var states stateBlock
	sorted := true
	decoder := wire.Decoder{Bare: true, Each: func(m *wire.Message) {
		if last := len(a.deliveries) - 1; last >= 0 && a.deliveries[last].Seq > m.Seq {
			sorted = false
		}
		a.deliveries = append(a.deliveries, Delivery{Key: m.Key, Data: m.Data, Seq: m.Seq, InsertedAt: m.InsertedAt,
			UpdatedAt: m.UpdatedAt, AckID: m.AckID, Deadline: a.fetched.lease.Deadline, Attempt: m.DeliverCount,
			Acknowledger: s.settler, state: states.next(a.fetched)})
	}}
	r := receiveRequest(s.stream, s.consumer, ReceiveOptions{BatchSize: p.asked, WaitFor: p.wait})
	r.onAnswer = func() { p.answered.Store(true) }
	sent := time.Now()
	a.err = s.client.do(ctx, r, func(h http.Header, body []byte) error {
		arrived := time.Now()
		ms, err := strconv.ParseInt(h.Get(waitedHeader), 10, 32)
		a.knowsWaited = err == nil && ms >= 0
		waited := time.Duration(0)
		if a.knowsWaited {
			waited = min(time.Duration(ms)*time.Millisecond, arrived.Sub(sent))
		}
		a.fetched = &fetched{origin: s.origin, lease: lease.New(sent, waited, arrived, terms, *s.terms.Load(), s.hard), fenced: fenced(h)}
		return decoder.Decode(body)
	})
	// Within an answer by seq: the 2024 server promises no order, and returns a batch in reverse.
	if !sorted {
		slices.SortStableFunc(a.deliveries, func(x, y Delivery) int { return cmp.Compare(x.Seq, y.Seq) })
	}
	lp.answers <- a // has room for every poller
}

// take handles an answer.
func (lp *subscriberLoop) take(a answer) {
	now := time.Now()
	lp.account(a)
	defer lp.reuse(a.deliveries)
	if a.err != nil {
		lp.takeFailure(now, a)
		return
	}
	lp.received(now)
	lp.knowsWaited = a.knowsWaited
	lp.more = len(a.deliveries) >= a.poll.asked
	if len(a.deliveries) == 0 {
		lp.takeEmpty(now, a)
		return
	}
	lp.empties, lp.nextPoll = 0, now
	f := a.fetched
	f.takenBefore = lp.taken()
	// The window is in the way if it let this receive ask for no more, or lets the next one ask for little. The room at one of
	// these times is not enough to tell: with one poller, half of the window may be free both times, for ever.
	small := lp.window.Small(lp.window.Ask(lp.room(lp.windowSize())))
	f.batch = lp.window.NewBatch(f.lease, a.poll.round, lp.more && (a.poll.limited || small))
	late := lease.Past(now, f.lease.HandOverBy)
	if late {
		lp.window.Lost(now, a.poll.asked, false) // it was too slow
	} else {
		lp.window.Arrived(now, len(a.deliveries))
	}
	open, _ := lp.sub.breaker.Open()
	if open {
		lp.sub.freshest(a.deliveries)
	}
	kept := a.deliveries[:0]
	for i := range a.deliveries {
		// More than was asked for must not take more room than was reserved; an answer that travelled too long is not worth
		// delivering; and handlers that do nothing but fail get one message, the probe.
		if d := &a.deliveries[i]; i >= a.poll.asked || late || open && !lp.sub.breaker.Try(d.state, now, f.lease.HandOverBy) {
			lp.sub.settler.returnDelivery(*d)
		} else {
			kept = append(kept, *d)
		}
	}
	lp.push(now, kept)
}

// takeEmpty handles an answer without messages. The loop pauses if the server did not wait.
func (lp *subscriberLoop) takeEmpty(now time.Time, a answer) {
	lp.sub.counts.emptyPolls.Add(1)
	early := a.poll.wait > 0 && now.Sub(a.poll.started) < a.poll.wait/2
	if early || lp.waitFor(now) == 0 {
		lp.backOff(now)
		return
	}
	lp.empties, lp.nextPoll = 0, now
}

// reuse keeps the slice of an answer for the next one, and nothing that is in it.
func (lp *subscriberLoop) reuse(deliveries []Delivery) {
	clear(deliveries)
	lp.unused = append(lp.unused, deliveries[:0])
}

// account replaces what a poll asked for by what it received. Messages whose answer was lost are not counted: nobody here
// has them.
func (lp *subscriberLoop) account(a answer) {
	lp.removePoll(a.poll)
	lp.sub.counts.polls.Add(1)
	n := len(a.deliveries)
	if a.err != nil || n == 0 {
		return
	}
	lp.sub.counts.received.Add(uint64(n))
	lp.sub.ledger.Add(a.fetched.lease, n, a.fetched)
}

// backOff pauses before the next receive, for longer each time.
func (lp *subscriberLoop) backOff(now time.Time) {
	pause := lp.sub.cfg.PollMax
	if lp.empties < 32 && lp.sub.cfg.PollMin<<lp.empties > 0 {
		pause = min(lp.sub.cfg.PollMin<<lp.empties, lp.sub.cfg.PollMax)
	}
	lp.empties++
	lp.nextPoll = now.Add(pause/2 + rand.N(pause/2+1))
}

// refusedFor is how long Sequin must refuse every receive until the Subscriber ends. A token may be replaced meanwhile, and a
// server that is being deployed may refuse one that is valid.
const refusedFor = 30 * time.Second

// takeFailure handles a receive that failed. Only an error that is permanent stops the Subscriber.
func (lp *subscriberLoop) takeFailure(now time.Time, a answer) {
	lp.more = false
	retry := lp.sub.client.cfg.Retry
	f := classify(a.err)
	if f.kind != kindUnauthorized {
		lp.refusedSince = time.Time{}
	}
	switch {
	case a.poll.wait > 0 && f.kind == kindInvalid && f.status() == http.StatusBadRequest && strings.Contains(f.api.Summary, "wait_for"):
		lp.refusesWait, lp.nextPoll = true, now
		lp.sub.log(slog.LevelInfo, "polls because the server does not wait", "error", a.err)
		return
	case f.kind == kindRateLimited && a.poll.wait > 0:
		// More receives wait than max_waiting allows. Those that wait get the messages first: receive without waiting, and
		// try to wait again now and then.
		lp.noWaitUntil = now.Add(10*time.Second + rand.N(10*time.Second))
		lp.backOff(now)
		if until := now.Add(min(f.api.retryAfter, retry.MaxWait)); until.After(lp.nextPoll) {
			lp.nextPoll = until
		}
		return
	case f.kind == kindUnauthorized:
		if lp.refusedSince.IsZero() {
			lp.refusedSince = now
		}
		if now.Sub(lp.refusedSince) >= refusedFor {
			lp.fatal = a.err
		}
	case f.kind == kindNotFound:
		lp.missing, lp.nextCheck = true, now
	default:
		lp.adapt(now, a, f)
	}
	lp.sub.counts.noteError(a.err)
	lp.nextPoll = now.Add(retry.wait(lp.failures, a.err))
	if lp.failures++; lp.failures == 1 {
		lp.failingSince = now
		lp.sub.log(slog.LevelWarn, "could not receive, and tries until it can", "error", a.err)
	}
}

// received ends a series of failures.
func (lp *subscriberLoop) received(now time.Time) {
	lp.refusedSince = time.Time{}
	if lp.failures > 0 {
		lp.sub.log(slog.LevelInfo, "receives again", "failures", lp.failures, "for", now.Sub(lp.failingSince))
	}
	lp.failures = 0
}

// adapt makes the next receives wait for less time, or ask for fewer messages, if that may be why this one failed: its answer
// was lost or cut, came too slowly, or something answered in place of the server. A receive that was cut without a byte after
// much of its wait most likely met the read time-out of a proxy.
func (lp *subscriberLoop) adapt(now time.Time, a answer, f requestFailure) {
	page := f.foreign && f.status() >= http.StatusInternalServerError // of a proxy that gave up
	cut := f.kind == kindLost && f.mayHaveActed
	began := a.poll.answered.Load()
	if after := now.Sub(a.poll.started); page || cut && !began {
		if learned := lp.wait.Cut(now, a.poll.wait, after); learned && after > a.poll.wait/2 {
			return
		}
	}
	if page || cut || f.kind == kindUnreadable || f.kind == kindResponseTooLarge {
		lp.window.Lost(now, a.poll.asked, f.kind == kindResponseTooLarge || cut && began)
	}
}

// freshest moves a delivery whose message has never failed to the front: it makes the better probe.
func (s *Subscriber) freshest(got []Delivery) {
	i := slices.IndexFunc(got, func(d Delivery) bool { return s.failures.Get(failureID(d)).Failures == 0 })
	if i > 0 {
		got[0], got[i] = got[i], got[0]
	}
}
