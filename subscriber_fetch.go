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
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/wire"
)

// receiving is a receive that runs.
type receiving struct {
	id       string        // its X-Request-Id
	size     int           // how many messages it asks for
	limited  bool          // it would ask for more with a larger window
	round    flow.Round    // that of the window when it started
	wait     time.Duration // how long it may wait at the server
	started  time.Time
	lap      int // that of parallel when it started
	each     int // the bytes of a message are likely to be so many; 0 if that is not known
	spares   int // how many slices for other answers are kept
	cancel   context.CancelFunc
	answered atomic.Bool // the answer has begun to arrive
	end      flow.Ending
}

// waits reports whether the receive waits at the server, as far as the client knows.
func (p *receiving) waits() bool { return p.wait > 0 && !p.answered.Load() }

// likely returns how many messages an answer of so many bytes is likely to hold at most, 0 if that is not known.
func (p *receiving) likely(bytes int) int {
	if p.each == 0 {
		return 0
	}
	return min(p.size, (bytes+bytes/8)/p.each)
}

// answer is the outcome of a receive.
type answer struct {
	request     *receiving
	fetched     *fetched
	deliveries  []Delivery
	bytes       int         // of the answer
	states      stateBlocks // of the deliveries
	knowsWaited bool
	err         error
}

// startReceives starts the receives that may run now. It returns when to call it again, the zero time if no timer is needed.
func (lp *subscriberLoop) startReceives(now time.Time) (next time.Time) {
	for {
		if open, until := lp.sub.breaker.Open(); open {
			return lp.startProbe(now, until)
		}
		switch {
		case len(lp.receives) > 0 && !lp.more:
			return time.Time{} // an answer wakes the loop
		case len(lp.receives) >= lp.parallel.Size():
			lp.parallel.Limits(func() bool { return !lp.window.Small(lp.window.Ask(lp.room(lp.windowSize()))) })
			return time.Time{}
		case now.Before(lp.nextReceive):
			return lp.nextReceive
		}
		ask, unread := lp.window.Ask(lp.room(lp.windowSize())), lp.sub.buffer.len()
		busy := len(lp.receives) > 0 || unread > 0
		if ask < 1 || busy && (lp.window.Small(ask) || !lp.more && lp.window.Enough(unread)) {
			// No timer needed: a settle, the end of a lease or an answer wakes the loop, and a non-empty channel is sampled.
			lp.sub.buffer.offerAdded(now) // before HandleBatch is told that its batch cannot grow
			lp.sub.full.Set(ask < 1 && len(lp.receives) == 0)
			return time.Time{}
		}
		limited := ask < lp.window.Ask(lp.room(lp.sub.cfg.MaxInFlight))
		lp.startReceive(now, ask, limited)
	}
}

// startProbe starts, if it is due, the receive that looks for a probe while the breaker is open. The receive asks for one
// message, and for twice as many with each further step. All messages but the probe are returned. startProbe returns when to
// call it again, the zero time if no timer is needed.
func (lp *subscriberLoop) startProbe(now, due time.Time) (next time.Time) {
	room := lp.sub.ledger.Room(lp.sub.cfg.MaxInFlight)
	switch {
	case len(lp.receives) > 0 || room < 1:
		return time.Time{} // an answer or a settle wakes the loop
	case now.Before(due):
		return due
	case now.Before(lp.nextReceive):
		return lp.nextReceive
	}
	lp.startReceive(now, min(room, lp.sub.breaker.ProbeSize(), MaxBatch), false) // may use all the room: no other receive runs
	return time.Time{}
}

// startReceive starts a receive. Only one of the receives that run may wait at the server. limited reports whether the
// receive would ask for more with a larger window.
func (lp *subscriberLoop) startReceive(now time.Time, ask int, limited bool) {
	lp.sub.full.Set(false)
	p := &receiving{id: uuid.NewString(), size: ask, limited: limited, round: lp.window.Round(), started: now, lap: lp.parallel.Start(),
		each: lp.window.Each(), spares: lp.parallel.Size() + lp.windowSize()/MaxBatch}
	if !slices.ContainsFunc(lp.receives, func(p *receiving) bool { return p.wait > 0 }) {
		p.wait = lp.waitFor(now)
	}
	ctx, cancel := context.WithCancel(lp.sub.receiving)
	p.cancel = cancel
	lp.receives = append(lp.receives, p)
	go lp.receive(ctx, p, *lp.sub.terms.Load())
}

// windowSize returns how many messages may be in flight now.
func (lp *subscriberLoop) windowSize() int {
	return max(lp.window.Size(), int(lp.sub.minWindow.Load()))
}

// room returns how many messages a receive may ask for with a window of the given size: those for which there is room, less
// those that other receives have asked for.
func (lp *subscriberLoop) room(window int) int {
	room, asked := lp.sub.ledger.Room(window), 0
	for _, p := range lp.receives {
		asked += p.size
	}
	room -= asked
	if each := lp.window.Each(); each > 0 {
		bytes := lp.sub.ledger.Bytes()
		room = min(room, (lp.sub.cfg.MaxInFlightBytes-bytes)/each-asked)
		if bytes == 0 && asked == 0 {
			room = max(room, 1) // a message that is larger than the limit
		}
	}
	return room
}

// waitFor returns how long the next receive may wait at the server. If the server does not report how long it waited, all of
// the wait counts against the lease, and the receive waits for at most a third of the lease.
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

// waitedHeader is the header for how long the server waited before it leased the messages, in milliseconds, rounded down.
const waitedHeader = "Sequin-Waited-Ms"

// receive makes one receive and reports its outcome to the loop.
func (lp *subscriberLoop) receive(ctx context.Context, p *receiving, terms lease.Terms) {
	defer p.cancel()
	s := lp.sub
	a := answer{request: p}
	decode := (*fetched).decode
	if s.origin.sink != "" {
		decode = (*fetched).decodeChanges
	}
	bare := s.client.extensions().Has(wire.Bare) && s.origin.sink == ""
	r := receiveRequest(s.origin.path, ReceiveOptions{BatchSize: p.size, WaitFor: p.wait}, bare)
	r.id = p.id
	r.stream, r.consumer = s.origin.names()
	r.onAnswer, r.got = func() { p.answered.Store(true) }, func() int { return len(a.deliveries) }
	sent := time.Now()
	a.err = s.client.do(ctx, r, func(h http.Header, body []byte) error {
		arrived := time.Now()
		ms, err := strconv.ParseInt(h.Get(waitedHeader), 10, 32)
		a.knowsWaited = err == nil && ms >= 0
		waited := time.Duration(0)
		if a.knowsWaited {
			waited = min(time.Duration(ms)*time.Millisecond, arrived.Sub(sent))
		}
		a.bytes = len(body)
		// Only what this answer announces counts: several servers may share an address while one is upgraded.
		announced, _ := wire.AnnouncedBy(h)
		a.fetched = &fetched{holder: s.settler, origin: s.origin, lease: lease.New(sent, waited, arrived, terms, *s.terms.Load(), s.hard), extensions: announced}
		spare := s.buffer.spare(p.likely(len(body)), p.spares) // now: a receive that waits needs no memory for its answer
		a.deliveries, err = decode(a.fetched, spare, &a.states, s.settler, body)
		return err
	})
	s.client.hooks.deliver(s.origin, a.deliveries)
	lp.answers <- &a // has room for every poller
}

// handleAnswer handles an answer.
func (lp *subscriberLoop) handleAnswer(a answer) {
	now := time.Now()
	lp.early = false
	lp.account(a)
	if a.err != nil {
		lp.handleFailure(now, a)
		return
	}
	lp.received(now)
	lp.knowsWaited = a.knowsWaited
	lp.setMore(len(a.deliveries) >= a.request.size)
	if len(a.deliveries) == 0 {
		lp.handleEmpty(now, a)
		return
	}
	lp.empties, lp.nextReceive = 0, now
	if lp.sub.origin.sink != "" {
		lp.attempts.count(a.deliveries)
	}
	f := a.fetched
	lp.distance.Add(now, now.Sub(f.lease.Began))
	f.readBefore = lp.readCount()
	// The window limits the Subscriber if it kept this receive from asking for more, or lets the next one ask for little
	// only. Both are checked, because with one poller half of the window may be free at both times, again and again.
	small := lp.window.Small(lp.window.Ask(lp.room(lp.windowSize())))
	f.batch = lp.window.NewBatch(f.lease, a.request.round, lp.more && (a.request.limited || small), lp.starved())
	late := lease.Past(now, f.lease.HandOverBy)
	if late {
		lp.window.Lost(now, a.request.size, false) // the answer was too slow
		lp.parallel.TooSlow(now, len(lp.receives))
	} else {
		lp.window.Arrived(now, len(a.deliveries))
		lp.parallel.Arrived(now, flow.Arrival{Lap: a.request.lap, Messages: len(a.deliveries), Full: lp.more, Starved: lp.sub.buffer.len() == 0,
			Took: now.Sub(f.lease.Began), Lease: f.lease.HandOverBy.Sub(f.lease.Began), Window: lp.window.Round()})
	}
	open, _ := lp.sub.breaker.Open()
	if open {
		lp.moveFreshestFirst(a.deliveries)
	}
	lp.push(f, lp.keep(now, a, late, open))
}

// starved reports whether, when an answer arrives, the program waits for messages that a larger window would bring: it has most of
// those in flight, or each request takes long. Otherwise most are in requests that take long because the server or this machine is
// busy. A larger window would take memory, and make these requests take longer.
func (lp *subscriberLoop) starved() bool {
	s := lp.sub
	inFlight, _ := s.ledger.InFlight()
	held := inFlight - s.settler.acks.Stats().Live
	return s.buffer.len() == 0 && (held > lp.window.Size()/2 || lp.distance.Far() || s.settler.distance.Far())
}

// keep returns three kinds of messages to the server: those beyond the number asked for, because no room is reserved for them;
// those of an answer that arrived too late; and all but the probe while the breaker is open. The others stay in their slice.
func (lp *subscriberLoop) keep(now time.Time, a answer, late, open bool) []Delivery {
	if !late && !open && len(a.deliveries) <= a.request.size {
		return a.deliveries
	}
	kept := a.deliveries[:0]
	for i, d := range a.deliveries {
		if i >= a.request.size || late || open && !lp.sub.breaker.Try(d.state, now, a.fetched.lease.HandOverBy) {
			lp.sub.settler.nackUndelivered(d)
		} else {
			kept = append(kept, d)
		}
	}
	clear(a.deliveries[len(kept):])
	return kept
}

// setMore records whether a receive returned as many messages as it asked for.
func (lp *subscriberLoop) setMore(more bool) {
	if lp.more = more; !more {
		lp.parallel.NotFull()
	}
}

// handleEmpty handles an answer without messages. It backs off if the server did not wait.
func (lp *subscriberLoop) handleEmpty(now time.Time, a answer) {
	lp.sub.counts.emptyPolls.Add(1)
	early := a.request.wait > 0 && now.Sub(a.request.started) < a.request.wait/2
	if early || lp.waitFor(now) == 0 {
		lp.backOff(now)
		lp.early, lp.settledBefore = early && lp.sub.origin.sink != "", lp.settles()
		return
	}
	lp.empties, lp.nextReceive = 0, now
	lp.sub.buffer.dropSpares() // nothing has arrived for as long as a receive waits
}

// endEarlyBackoff ends the backoff after an early empty answer of a sink when something was settled since: the next change of
// its row may be available.
func (lp *subscriberLoop) endEarlyBackoff(now time.Time) {
	if lp.early && lp.settles() != lp.settledBefore {
		lp.early, lp.empties, lp.nextReceive = false, 0, now
	}
}

// account frees the room that a receive reserved, and counts the messages that it received. Messages whose answer was lost
// are not counted, because the program cannot get them.
func (lp *subscriberLoop) account(a answer) {
	lp.receives = slices.DeleteFunc(lp.receives, func(p *receiving) bool { return p == a.request })
	lp.parallel.End(a.request.lap)
	lp.sub.counts.polls.Add(1)
	n := len(a.deliveries)
	if a.err != nil || n == 0 {
		lp.sub.buffer.reuse(a.deliveries)
		return
	}
	lp.sub.counts.received.Add(uint64(n))
	lp.window.Sized(n, a.bytes)
	lp.sub.ledger.Add(a.fetched.lease, n, a.bytes, receivedStates{a.fetched, a.states.blocks})
	if a.fetched.extensions.Has(wire.Extend) {
		lp.extends = true
		if half := a.fetched.lease.Half(); half.Before(lp.nextKeep) {
			lp.nextKeep = half
		}
	}
}

// backOff delays the next receive, for longer each time.
func (lp *subscriberLoop) backOff(now time.Time) {
	pause := lp.sub.cfg.PollMax
	if lp.empties < 32 && lp.sub.cfg.PollMin<<lp.empties > 0 {
		pause = min(lp.sub.cfg.PollMin<<lp.empties, lp.sub.cfg.PollMax)
	}
	lp.empties++
	lp.nextReceive = now.Add(pause/2 + rand.N(pause/2+1))
}

// refusedFor is how long Sequin must refuse every receive before the Subscriber stops. A token may be replaced during that
// time, and a server that is being deployed may refuse a valid token.
const refusedFor = 30 * time.Second

// handleFailure handles a receive that failed. Only an error that is permanent stops the Subscriber.
func (lp *subscriberLoop) handleFailure(now time.Time, a answer) {
	lp.setMore(false)
	retry, f := lp.sub.client.cfg.Retry, classify(a.err)
	if f.kind != kindUnauthorized {
		lp.refusedSince = time.Time{}
	}
	switch {
	case a.request.wait > 0 && f.kind == kindInvalid && f.status() == http.StatusBadRequest && strings.Contains(f.api.Summary, "wait_for"):
		lp.refusesWait, lp.nextReceive = true, now
		lp.sub.log.Add(slog.LevelInfo, "falls back to short polling, because the server refuses wait_for", "error", a.err)
		return
	case f.kind == kindRateLimited && a.request.wait > 0:
		// More receives wait than max_waiting allows. Short-poll, and try to wait again after 10 to 20 s. Until then the
		// receives that wait get the messages first.
		lp.noWaitUntil = now.Add(10*time.Second + rand.N(10*time.Second))
		lp.backOff(now)
		if until := now.Add(min(f.api.retryAfter, retry.MaxWait)); until.After(lp.nextReceive) {
			lp.nextReceive = until
		}
		return
	case f.kind == kindUnauthorized:
		if lp.refusedSince.IsZero() {
			lp.refusedSince = now
		}
		if now.Sub(lp.refusedSince) >= refusedFor {
			lp.fatal = a.err
		}
	case f.kind == kindNotFound && lp.missing && lp.sub.origin.sink != "":
		lp.fatal = a.err // a second 404 in a row; a consumer of a stream is read again instead
	case f.kind == kindNotFound:
		lp.missing, lp.nextCheck = true, now
	default:
		lp.adapt(now, a, f)
	}
	lp.sub.counts.noteError(a.err)
	lp.nextReceive = now.Add(retry.wait(lp.failures, a.err))
	lp.sub.outage.Failed(a.err)
	lp.failures++
}

// received ends a series of failures.
func (lp *subscriberLoop) received(now time.Time) {
	lp.refusedSince = time.Time{}
	lp.sub.outage.Succeeded()
	lp.failures = 0
	if lp.sub.origin.sink != "" {
		lp.missing = false
	}
}

// adapt makes the next receives wait for less time or ask for fewer messages, if this one may have failed because it waited
// or asked for too much: its answer was lost, cut or unreadable, or a proxy answered in place of the server. A receive that
// was cut without a byte after much of its wait most likely reached the read time-out of a proxy.
func (lp *subscriberLoop) adapt(now time.Time, a answer, f requestFailure) {
	page := f.foreign && f.status() >= http.StatusInternalServerError // the error page of a proxy
	cut := f.kind == kindLost && f.mayHaveActed
	began := a.request.answered.Load()
	if after := now.Sub(a.request.started); f.endsWait() || cut && !began {
		if learned := lp.wait.Cut(now, a.request.wait, after); learned && after > a.request.wait/2 {
			return
		}
	}
	if cut && errors.Is(a.err, context.DeadlineExceeded) {
		lp.parallel.TooSlow(now, len(lp.receives))
	}
	if page || cut || f.kind == kindUnreadable || f.kind == kindResponseTooLarge {
		lp.window.Lost(now, a.request.size, f.kind == kindResponseTooLarge || cut && began)
	}
}
