package sequin

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// waitingReceiveGrace and receiveGrace are how long a stop lets a receive finish. One that waits at the server and has
	// had no answer for 100 ms most likely waits for a message, and to cancel it loses nothing. Any other receive is being
	// answered now, and to cancel it would leave its messages until their leases end.
	waitingReceiveGrace = 100 * time.Millisecond
	receiveGrace        = 2 * time.Second
	// cancellationGrace is how long a stop waits for the server to notice that a waiting receive was cancelled, before it
	// returns messages. Over loopback that takes up to half a millisecond. Over a longer distance the cancellation and the
	// nack that follows it take equally long.
	cancellationGrace = time.Millisecond
)

// DrainError tells what a stop left unsettled: because the ctx of Close, or DrainTimeout, or the leases of deliveries ended
// first, or because a settle or the return of a message failed.
type DrainError struct {
	// Unsettled counts the deliveries that the program did not settle in time, and those whose ack, nack or return was not
	// carried out. They are redelivered when their leases end on the server.
	Unsettled int
	// Unknown counts the deliveries whose ack, nack or return was sent and has no known outcome. They may be redelivered.
	Unknown int

	cause error
}

// Error tells how many deliveries were left.
func (e *DrainError) Error() string {
	return fmt.Sprintf("sequin: stopped with %d deliveries unsettled and %d settles of unknown outcome: %v", e.Unsettled, e.Unknown, e.cause)
}

// Unwrap returns the error of the ctx that ended first. If none did, it returns the error of a settle or return that failed,
// or ErrLeaseExpired.
func (e *DrainError) Unwrap() error { return e.cause }

// shutdown is what the loop and the callers of Close and Err tell each other about a stop.
type shutdown struct {
	mu      sync.Mutex // guards all below; held for assignments only
	closing bool       // Close was called: its ctx replaces DrainTimeout
	cause   error      // why the wait for open deliveries was interrupted
	reason  error      // what Err returns
	outcome error      // what Close returns
}

func (d *shutdown) beginClose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing = true
}

func (d *shutdown) isClosing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closing
}

// interrupt notes why the wait for open deliveries ends. The first cause counts.
func (d *shutdown) interrupt(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause == nil {
		d.cause = cause
	}
}

func (d *shutdown) setErr(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reason = err
}

func (d *shutdown) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reason
}

// finish sets what Close returns. The cause of an interrupt takes the place of that in left.
func (d *shutdown) finish(left DrainError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if left.Unsettled+left.Unknown == 0 {
		return
	}
	if d.cause != nil {
		left.cause = d.cause
	}
	d.outcome = &left
}

func (d *shutdown) result() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.outcome
}

// shutDown stops a Subscriber:
//
//  1. It cancels the receives that wait for a message.
//  2. It sends the delayed nacks, returns the deliveries in the channel, and closes the channel.
//  3. It lets the receives that still run finish, or cancels them, and returns the messages that they received.
//  4. It waits until the deliveries that are open are settled, or their leases are over, or the wait is interrupted.
//  5. It sends the last settles, with a context of their own.
//  6. It wakes the callers of Close.
func (lp *subscriberLoop) shutDown() {
	began := time.Now()
	s := lp.sub
	s.ledger.Expire(began) // these are not what the stop leaves
	s.ledger.Stop()
	if s.soft.Err() == nil {
		s.shutdown.setErr(lp.fatal)
	}
	s.softStop()
	// First, because a message that is returned goes to a receive that waits. If that is one of this Subscriber, which is
	// cancelled a moment later, the message is lost until its lease ends. So is one that is returned before the server has
	// noticed the cancellation.
	cancelled := false
	for _, n := lp.cancelPolls(began, began); n > 0; _, n = lp.cancelPolls(began, began) {
		lp.returnAnswer(<-lp.answers)
		cancelled = true
	}
	unread := lp.drainBuffer()
	close(s.deliveries)
	if inFlight, _ := s.ledger.InFlight(); cancelled && inFlight > 0 {
		time.Sleep(cancellationGrace)
	}
	lp.sendNow(s.ledger.Release()) // from now on nacks are sent at once
	for _, d := range unread {
		s.settler.returnDelivery(d)
	}
	lp.await(began)
	lp.timer.Stop()
	if lp.checking {
		<-lp.checks // its ctx has ended
	}
	lp.finish()
}

// await waits for the receives that run, and for the open deliveries to be settled.
func (lp *subscriberLoop) await(began time.Time) {
	s := lp.sub
	drainUntil := began.Add(s.cfg.DrainTimeout)
	var graceUntil time.Time // until then handlers may still settle what they have; zero until the wait is interrupted
	for {
		now := time.Now()
		next := now.Add(never)
		open, firstDeadline := s.ledger.Open(now)
		if open > 0 {
			next = firstDeadline
		}
		interrupted := s.hard.Err() != nil
		bounded := !interrupted && !s.shutdown.isClosing()
		if interrupted && graceUntil.IsZero() {
			graceUntil = now.Add(handlerGrace)
		}
		mayGiveBack := interrupted && s.handlersServe() && now.Before(graceUntil)
		switch {
		case len(lp.polls) == 0 && (open == 0 || interrupted && !mayGiveBack):
			return
		case bounded && !now.Before(drainUntil):
			s.stopWaiting(context.DeadlineExceeded)
			continue
		case bounded && drainUntil.Before(next):
			next = drainUntil
		}
		if mayGiveBack && graceUntil.Before(next) {
			next = graceUntil
		}
		if cancelNext, _ := lp.cancelPolls(now, began); cancelNext.Before(next) {
			next = cancelNext
		}
		lp.timer.Reset(time.Until(next))
		select {
		case a := <-lp.answers:
			lp.returnAnswer(a)
		case <-s.wakeups:
		case <-lp.timer.C:
		}
	}
}

// handlersServe reports whether handlers have deliveries that they have not settled yet.
func (s *Subscriber) handlersServe() bool {
	p := s.handlers.Load()
	return p != nil && p.serving()
}

// cancelPolls cancels the receives to which the stop gives no more time. It returns when to look again, and how many are
// cancelled and have not reported yet: they do at once.
func (lp *subscriberLoop) cancelPolls(now, began time.Time) (next time.Time, cancelled int) {
	next = now.Add(never)
	for _, p := range lp.polls {
		if until := p.mayRunUntil(began); now.Before(until) {
			if until.Before(next) {
				next = until
			}
			continue
		}
		p.cancel()
		cancelled++
	}
	return next, cancelled
}

// mayRunUntil is until when a stop that began lets the receive finish.
func (p *poll) mayRunUntil(began time.Time) time.Time {
	if p.wait > 0 && !p.answered.Load() {
		return p.started.Add(waitingReceiveGrace)
	}
	return began.Add(receiveGrace)
}

// returnAnswer returns the messages of a receive.
func (lp *subscriberLoop) returnAnswer(a answer) {
	lp.account(a)
	if a.err == nil {
		for _, d := range a.deliveries {
			lp.sub.settler.returnDelivery(d)
		}
	}
}

// finish sends the last settles and sets what Close returns.
func (lp *subscriberLoop) finish() {
	s := lp.sub
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.hard), s.terms.Load().Margin)
	defer cancel()
	_, _ = s.settler.acks.Close(ctx) // each settle that they leave has been reported by itself
	_, _ = s.settler.nacks.Close(ctx)
	unsent := s.ledger.Unsent()
	s.shutdown.finish(DrainError{Unsettled: unsent.Unsettled + s.ledger.Unsettled(), Unknown: unsent.Unknown,
		cause: cmp.Or(unsent.Cause, ErrLeaseExpired)})
	s.hardStop()
	close(s.done)
}
