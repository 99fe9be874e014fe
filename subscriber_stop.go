package sequin

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// cutLongAfter and cutShortAfter are how long a stop lets a receive finish. One in a long poll that has not been
	// answered for 100 ms is waiting for a message, and cutting it loses nothing in all likelihood; any other is being
	// answered now, and cutting it would leave what it brings to the end of the lease.
	cutLongAfter  = 100 * time.Millisecond
	cutShortAfter = 2 * time.Second
)

// wind ends a Subscriber:
//
//  1. receives that wait for a message are cut;
//  2. held nacks go out, what the channel holds is taken back and nacked, and the channel is closed;
//  3. receives that still run finish, or are cut; what they bring is nacked;
//  4. these nacks, and what is handed out, are awaited, until settled, expired, or the waiting is given up;
//  5. the last settles go out, on a context of their own;
//  6. whoever waits in Close is told.
func (lp *subscriberLoop) shutDown() {
	began := time.Now()
	lp.sub.mu.Lock()
	lp.sub.stopping = true // from here hold refuses, and nacks go out at once
	if lp.sub.soft.Err() == nil {
		lp.sub.err = lp.fatal
	}
	held := lp.sub.held
	lp.sub.held = nil
	lp.sub.mu.Unlock()
	lp.sub.softStop()
	// First, because what is given back goes to whoever waits: to a receive that is cut a moment later, and with it to the
	// end of its lease.
	for _, cut := lp.cutPolls(began, began); cut > 0; _, cut = lp.cutPolls(began, began) {
		lp.returned(<-lp.answers)
	}
	lp.sendNow(held)
	for more := true; more; {
		select {
		case d := <-lp.sub.deliveries:
			lp.sub.counts.takenBack.Add(1)
			lp.sub.settler.returnDelivery(d)
		default:
			more = false
		}
	}
	close(lp.sub.deliveries)
	lp.await(began)
	lp.timer.Stop()
	if lp.checking {
		<-lp.checks // its ctx has ended
	}
	lp.finish()
}

// await waits for the receives that run, and for the fate of each delivery.
func (lp *subscriberLoop) await(began time.Time) {
	drainUntil := began.Add(lp.sub.cfg.DrainTimeout)
	for {
		now := time.Now()
		lp.sub.mu.Lock()
		open, next := lp.sub.openLocked(now)
		bounded := !lp.sub.closing
		lp.sub.mu.Unlock()
		given := lp.sub.hard.Err() != nil
		switch {
		case len(lp.polls) == 0 && (open == 0 || given):
			return
		case bounded && !given && !now.Before(drainUntil):
			lp.sub.giveUp(context.DeadlineExceeded)
			continue
		case bounded && !given && drainUntil.Before(next):
			next = drainUntil
		}
		if cutNext, _ := lp.cutPolls(now, began); cutNext.Before(next) {
			next = cutNext
		}
		lp.timer.Reset(time.Until(next))
		select {
		case a := <-lp.answers:
			lp.returned(a)
		case <-lp.sub.wakeups:
		case <-lp.timer.C:
		}
	}
}

// cutPolls cuts the receives with which the stop that began has lost patience. It returns when to look again, and how many
// are cut and have not reported yet: they will at once.
func (lp *subscriberLoop) cutPolls(now, began time.Time) (next time.Time, cut int) {
	next = now.Add(never)
	for _, p := range lp.polls {
		if until := p.patience(began); now.Before(until) {
			if until.Before(next) {
				next = until
			}
			continue
		}
		p.cancel()
		cut++
	}
	return next, cut
}

// returned gives back what a receive has brought.
func (lp *subscriberLoop) returned(a answer) {
	lp.book(a)
	if a.err == nil {
		for _, d := range a.deliveries {
			lp.sub.settler.returnDelivery(d)
		}
	}
}

// patience is until when a stop that began lets the receive finish.
func (p *poll) patience(began time.Time) time.Time {
	if p.wait > 0 && !p.answered.Load() {
		return p.started.Add(cutLongAfter)
	}
	return began.Add(cutShortAfter)
}

// finish sends the last settles and says what was left.
func (lp *subscriberLoop) finish() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(lp.sub.hard), lp.sub.terms().margin)
	defer cancel()
	_, _ = lp.sub.settler.acks.Close(ctx) // what they leave settled has been told of, one by one
	_, _ = lp.sub.settler.nacks.Close(ctx)
	lp.sub.mu.Lock()
	e := lp.sub.left
	open, _ := lp.sub.openLocked(time.Now())
	e.Unsettled += open
	if lp.sub.cause != nil {
		e.cause = lp.sub.cause
	}
	if e.Unsettled+e.Unknown > 0 {
		lp.sub.outcome = &e
	}
	lp.sub.mu.Unlock()
	lp.sub.hardStop()
	close(lp.sub.done)
}

// DrainError says what a stop had to leave: because the ctx of Close, or DrainTimeout, ended first, or because what was
// not handed out could not be given back.
type DrainError struct {
	// Unsettled counts deliveries of which the server was told nothing: they were handed out and not acked or nacked, or
	// an ack, a nack or the giving back could not be sent. They come again when their leases end.
	Unsettled int
	// Unknown counts deliveries whose ack, nack or giving back was on its way: they may come again.
	Unknown int

	cause error
}

// Error counts what was left.
func (e *DrainError) Error() string {
	return fmt.Sprintf("sequin: stopped with %d deliveries unsettled and %d settles of unknown outcome: %v", e.Unsettled, e.Unknown, e.cause)
}

// Unwrap returns the error of the ctx that ended, or else why something could not be given back.
func (e *DrainError) Unwrap() error { return e.cause }

// add counts a settle that ended with err.
func (e *DrainError) add(err error) {
	if e.cause == nil {
		e.cause = err
	}
	if errors.Is(err, ErrOutcomeUnknown) {
		e.Unknown++
	} else {
		e.Unsettled++
	}
}

// leftLocked reports whether a settle that failed is for Close to tell: of what no program has seen nobody else does, and
// what a program has settled is reported to it, unless the stop was cut off in the midst of it. Of the latter a lease
// that is over leaves nothing: it was awaited, or refused.
func (s *Subscriber) leftLocked(x *settling, err error) bool {
	if x.undelivered {
		return s.stopping
	}
	return s.hard.Err() != nil && (errors.Is(err, ErrOutcomeUnknown) || !past(time.Now(), x.state.lease.deadline))
}

// openLocked counts the deliveries whose fate is not known and whose leases are not over: in the channel, handed out, or
// with a settle on its way. It says when the first of these leases ends.
func (s *Subscriber) openLocked(now time.Time) (open int, next time.Time) {
	next = now.Add(never)
	for l := s.leases.first; l != nil; l = l.next {
		if l.open == 0 || past(now, l.deadline) {
			continue
		}
		open += l.open
		if l.deadline.Before(next) {
			next = l.deadline
		}
	}
	return open, next
}
