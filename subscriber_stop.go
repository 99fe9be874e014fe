package sequin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// DrainError counts the deliveries that a stop did not settle, because the ctx of Close, DrainTimeout or the leases of
// deliveries ended first, or because a settle or the return of a message failed.
type DrainError struct {
	// Unsettled counts the deliveries that the program did not settle in time, and those whose ack, nack or return was not
	// carried out. They are redelivered when their leases end on the server.
	Unsettled int
	// Unknown counts the deliveries whose ack, nack or return was sent and has no known outcome. They may be redelivered.
	Unknown int

	cause error
}

// Error returns a text with both counts and the cause.
func (e *DrainError) Error() string {
	return fmt.Sprintf("sequin: stopped with %d deliveries unsettled and %d settles of unknown outcome: %v", e.Unsettled, e.Unknown, e.cause)
}

// Unwrap returns the error of the ctx that ended first. If none did, it returns the error of a settle or return that failed,
// or ErrLeaseExpired.
func (e *DrainError) Unwrap() error { return e.cause }

// stopState is the state of a stop that the loop shares with the callers of Close and Err.
type stopState struct {
	mu            sync.Mutex // guards all below; held for assignments only
	closing       bool       // Close was called: its ctx replaces DrainTimeout
	now           bool       // CloseNow was called: what the program has not settled is returned
	interruptedBy error      // why the wait for open deliveries was interrupted
	errResult     error      // what Err returns
	closeResult   error      // what Close returns
}

func (d *stopState) beginClose(now bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing, d.now = true, d.now || now
}

func (d *stopState) isClosing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closing
}

// isNow reports whether CloseNow was called.
func (d *stopState) isNow() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// interrupt records why the wait for open deliveries ends. Later calls change nothing.
func (d *stopState) interrupt(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.interruptedBy == nil {
		d.interruptedBy = cause
	}
}

func (d *stopState) setErr(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errResult = err
}

func (d *stopState) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.errResult
}

// setOutcome sets what Close returns. If the stop was interrupted, that error replaces left.cause.
func (d *stopState) setOutcome(left DrainError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if left.Unsettled+left.Unknown == 0 {
		return
	}
	if d.interruptedBy != nil {
		left.cause = d.interruptedBy
	}
	d.closeResult = &left
}

func (d *stopState) result() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closeResult
}

// runStop stops a Subscriber:
//
//  1. It has the server end the receives that wait there, or cancels those that have waited for 100 ms or more.
//  2. It sends the delayed nacks, returns the deliveries in the channel, and closes the channel.
//  3. It waits for the receives that still run, cancels those that run for too long, and returns their messages.
//  4. For CloseNow it returns the deliveries that the program has.
//  5. It waits until the deliveries that are open are settled, or their leases are over, or the wait is interrupted.
//  6. It sends the last settles, with a context of their own.
//  7. It wakes the callers of Close.
func (lp *subscriberLoop) runStop() {
	began := time.Now()
	s := lp.sub
	lp.asks = make(chan ask, cap(lp.answers))
	s.ledger.Expire(began) // leases that were over before the stop do not count as unsettled
	s.ledger.Stop()
	if s.soft.Err() == nil {
		s.stop.setErr(lp.fatal)
	}
	s.softStop()
	unread := lp.drainBuffer()
	// End them before anything is returned, because the server delivers a returned message to a receive that waits. If that is
	// a receive of this Subscriber which is cancelled a moment later, the message is not available until its lease ends. The
	// same happens to a message that is returned before the server has noticed the cancellation. The channel is closed after
	// that, because whoever reads it then returns what he has collected.
	lp.endReceives(began)
	close(s.deliveries)
	lp.awaitCancellations()
	lp.sendNow(s.ledger.Release()) // from now on nacks are sent at once
	for _, d := range unread {
		s.settler.nackUndelivered(d)
	}
	lp.await(began)
	lp.timer.Stop()
	if lp.checking {
		<-lp.checks // its ctx has ended
	}
	lp.closeSettler()
}

// cancellationGrace is how long a stop waits for the server to notice that a waiting receive was cancelled, before it
// returns messages. Over loopback the server needs up to half a millisecond. Over a longer distance the cancellation and
// the nack that follows it are delayed equally.
const cancellationGrace = time.Millisecond

// endReceives ends the receives that wait at the server, and returns their messages. It leaves alone those that are being answered,
// and the young ones of a server that cannot end them.
func (lp *subscriberLoop) endReceives(began time.Time) {
	for {
		now := time.Now()
		next := earlier(lp.askToEnd(now, began), now.Add(flow.AskFor))
		cancelNext := lp.cancelReceives(now, began)
		if !slices.ContainsFunc(lp.receives, func(p *receiving) bool { return p.end.HoldsUp(now, p.started, p.waits()) }) {
			return
		}
		lp.awaitEvent(earlier(next, cancelNext))
	}
}

// ask is the outcome of a request to end a receive.
type ask struct {
	of    *receiving
	ended bool // the server ends it
}

// askToEnd asks a server that can end receives to end those that wait there. It asks again about those that are unknown. It returns
// when to call it again.
func (lp *subscriberLoop) askToEnd(now, began time.Time) (next time.Time) {
	next = now.Add(never)
	s := lp.sub
	if !s.client.extensions().Has(wire.EndReceive) || s.origin.sink != "" || s.receiving.Err() != nil || now.Sub(began) >= flow.AskFor {
		return next
	}
	for _, p := range lp.receives {
		switch ask, at := p.end.Ask(now, p.waits()); {
		case ask:
			lp.asking++
			go lp.ask(p)
		case !at.IsZero():
			next = earlier(next, at)
		}
	}
	return next
}

// ask makes a request to end a receive, and reports its outcome to the loop.
func (lp *subscriberLoop) ask(p *receiving) {
	s := lp.sub
	r := request{method: http.MethodPost, path: s.origin.path + "/end_receive", timeout: flow.AskFor,
		body: &transport.Payload{JSON: wire.AppendEndReceive(nil, p.id)}}
	r.stream, r.consumer = s.origin.names()
	got, err := decoded[data[endedJSON]](s.receiving, s.client, r)
	lp.asks <- ask{p, err == nil && *got.Data.Ended} // has room for every poller
}

// endedJSON is the answer to a request to end a receive.
type endedJSON struct {
	Ended *bool `json:"ended"`
}

func (e *endedJSON) complete() error { return wire.RequireField(e.Ended != nil, "ended") }

// cancelReceives cancels the receives that have run for as long as the stop lets them. It returns when to call it again. A cancelled
// receive reports at once.
func (lp *subscriberLoop) cancelReceives(now, began time.Time) (next time.Time) {
	next = now.Add(never)
	for _, p := range lp.receives {
		if until := p.end.MayRunUntil(began, p.started, p.waits()); now.Before(until) {
			next = earlier(next, until)
			continue
		}
		p.cancel()
		lp.cancelledAt = now
	}
	return next
}

// awaitCancellations waits until the server has noticed that receives were cancelled, if any were and messages are to be returned.
func (lp *subscriberLoop) awaitCancellations() {
	if inFlight, _ := lp.sub.ledger.InFlight(); inFlight > 0 {
		time.Sleep(time.Until(lp.cancelledAt.Add(cancellationGrace)))
	}
}

// await waits for the receives that run, and for the open deliveries to be settled.
func (lp *subscriberLoop) await(began time.Time) {
	s := lp.sub
	drainUntil := began.Add(s.cfg.DrainTimeout)
	var graceUntil time.Time // until then handlers may settle their deliveries; zero until their contexts end
	givenBack := false
	for {
		if s.stop.isNow() {
			s.hardStop()
		}
		now := time.Now()
		next := now.Add(never)
		open, firstDeadline := s.ledger.Open(now)
		if open > 0 {
			next = firstDeadline
		}
		interrupted, ended := s.receiving.Err() != nil, s.hard.Err() != nil
		bounded := !interrupted && !s.stop.isClosing()
		if ended && graceUntil.IsZero() {
			graceUntil = now.Add(handlerGrace)
		}
		mayStillSettle := ended && s.handlersServe() && now.Before(graceUntil)
		if !givenBack && s.stop.isNow() && len(lp.receives) == 0 && !mayStillSettle {
			givenBack = true
			lp.awaitCancellations()
			s.giveBack(time.Now())
			continue
		}
		switch {
		case len(lp.receives) == 0 && lp.asking == 0 && (open == 0 || interrupted && !mayStillSettle):
			return
		case bounded && !now.Before(drainUntil):
			s.stopWaiting(context.DeadlineExceeded)
			continue
		case bounded && drainUntil.Before(next):
			next = drainUntil
		}
		if mayStillSettle && graceUntil.Before(next) {
			next = graceUntil
		}
		if at := lp.keepLeases(now); !at.IsZero() {
			next = earlier(next, at)
		}
		askNext := lp.askToEnd(now, began)
		lp.awaitEvent(earlier(next, earlier(askNext, lp.cancelReceives(now, began))))
	}
}

// awaitEvent waits until a receive or a request to end one reports, something else wakes the loop, or it is the given time.
func (lp *subscriberLoop) awaitEvent(until time.Time) {
	lp.timer.Reset(time.Until(until))
	select {
	case a := <-lp.answers:
		lp.returnAnswer(*a)
	case a := <-lp.asks:
		lp.asking--
		a.of.end.Answered(time.Now(), a.ended)
	case <-lp.sub.wakeups:
	case <-lp.timer.C:
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// stopWaiting ends a stop's wait for deliveries to be settled.
func (s *Subscriber) stopWaiting(cause error) {
	s.stop.interrupt(cause)
	s.hardStop()
	s.cutOff()
	s.wake()
}

// handlersServe reports whether handlers have deliveries that they have not settled yet.
func (s *Subscriber) handlersServe() bool {
	p := s.handlers.Load()
	return p != nil && p.serving()
}

// returnAnswer returns the messages of a receive.
func (lp *subscriberLoop) returnAnswer(a answer) {
	lp.account(a)
	if a.err == nil {
		for _, d := range a.deliveries {
			lp.sub.settler.nackUndelivered(d)
		}
	}
}

// closeSettler sends the last settles and sets what Close returns.
func (lp *subscriberLoop) closeSettler() {
	s := lp.sub
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.hard), s.terms.Load().Margin)
	defer cancel()
	s.settler.extender().Close()
	_, _ = s.settler.acks.Close(ctx) // report has reported each settle that failed
	_, _ = s.settler.nacks().Close(ctx)
	told, cancel := context.WithTimeout(context.Background(), callbackGrace)
	defer cancel()
	s.ackErrors.Await(told)
	lp.endStates()
	s.client.hooks.await(told)
	s.client.log.Await(told)
	s.log.Await(told)
	unsent := s.ledger.Unsent()
	s.stop.setOutcome(DrainError{Unsettled: unsent.Unsettled + s.ledger.Unsettled(), Unknown: unsent.Unknown,
		cause: cmp.Or(unsent.Cause, ErrLeaseExpired)})
	s.hardStop()
	s.cutOff()
	close(s.done)
}

// endStates reports the end of the states of the Subscriber, which has stopped.
func (lp *subscriberLoop) endStates() {
	end := func(state State, since time.Time) {
		lp.sub.changed(StateInfo{State: state, Over: true, For: time.Since(since)})
	}
	if lasted, told := lp.sub.outage.Unended(); told {
		lp.sub.changed(StateInfo{State: StateUnavailable, Over: true, For: lasted})
	}
	if since, shrunk := lp.shrunk.Unended(); shrunk {
		end(StateWindowShrunk, since)
	}
	if since := lp.sub.slowSince.Swap(nil); since != nil {
		end(StateBreakerOpen, *since)
	}
}

// giveBack returns the deliveries that the program has not settled. Those whose leases are over are redelivered anyway.
func (s *Subscriber) giveBack(now time.Time) {
	for _, r := range s.ledger.OpenNotes() {
		for _, block := range r.states {
			for i := range block {
				if state := &block[i]; !lease.Past(now, state.Lease().Deadline) {
					s.settler.giveBack(state)
				}
			}
		}
	}
}

// sendNow sends nacks that were delayed.
func (lp *subscriberLoop) sendNow(nacks []lease.Delayed[settling]) {
	for _, n := range nacks {
		_ = lp.sub.settler.nack(n.Item, time.Time{}, 0, false) // no ErrClosed: this goroutine closes the settler later, in closeSettler
	}
}

// drainBuffer removes and returns the deliveries that the program has not read.
func (lp *subscriberLoop) drainBuffer() []Delivery {
	all := lp.sub.buffer.drain()
	lp.sub.counts.recalled.Add(uint64(len(all)))
	return all
}
