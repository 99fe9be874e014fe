package sequin

import (
	"context"
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
func (in *intake) wind() {
	began := time.Now()
	in.mu.Lock()
	in.stopping = true // from here hold refuses, and nacks go out at once
	if in.stop.Err() == nil {
		in.err = in.fatal
	}
	held := in.held
	in.held = nil
	in.mu.Unlock()
	in.halt()
	// First, because what is given back goes to whoever waits: to a receive that is cut a moment later, and with it to the
	// end of its lease.
	for _, cut := in.cutPolls(began, began); cut > 0; _, cut = in.cutPolls(began, began) {
		in.returned(<-in.answers)
	}
	in.sendNow(held)
	for more := true; more; {
		select {
		case d := <-in.deliveries:
			in.counts.takenBack.Add(1)
			in.settler.giveBack(d)
		default:
			more = false
		}
	}
	close(in.deliveries)
	in.await(began)
	in.timer.Stop()
	if in.checking {
		<-in.checks // its ctx has ended
	}
	in.finish()
}

// await waits for the receives that run, and for the fate of each delivery.
func (in *intake) await(began time.Time) {
	drainUntil := began.Add(in.cfg.DrainTimeout)
	for {
		now := time.Now()
		in.mu.Lock()
		open, next := in.openLocked(now)
		bounded := !in.closing
		in.mu.Unlock()
		given := in.cut.Err() != nil
		switch {
		case len(in.polls) == 0 && (open == 0 || given):
			return
		case bounded && !given && !now.Before(drainUntil):
			in.giveUp(context.DeadlineExceeded)
			continue
		case bounded && !given && drainUntil.Before(next):
			next = drainUntil
		}
		if cutNext, _ := in.cutPolls(now, began); cutNext.Before(next) {
			next = cutNext
		}
		in.timer.Reset(time.Until(next))
		select {
		case a := <-in.answers:
			in.returned(a)
		case <-in.kick:
		case <-in.timer.C:
		}
	}
}

// cutPolls cuts the receives with which the stop that began has lost patience. It returns when to look again, and how many
// are cut and have not reported yet: they will at once.
func (in *intake) cutPolls(now, began time.Time) (next time.Time, cut int) {
	next = now.Add(never)
	for _, p := range in.polls {
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
func (in *intake) returned(a answer) {
	in.book(a)
	if a.err == nil {
		for _, d := range a.deliveries {
			in.settler.giveBack(d)
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
func (in *intake) finish() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.cut), in.terms().margin)
	defer cancel()
	_, _ = in.settler.acks.Close(ctx) // what they leave settled has been told of, one by one
	_, _ = in.settler.nacks.Close(ctx)
	in.mu.Lock()
	e := in.left
	open, _ := in.openLocked(time.Now())
	e.Unsettled += open
	if in.cause != nil {
		e.cause = in.cause
	}
	if e.Unsettled+e.Unknown > 0 {
		in.outcome = &e
	}
	in.mu.Unlock()
	in.sever()
	close(in.done)
}
