package sequin

import (
	"context"
	"time"
)

// wind ends a Subscriber:
//
//  1. held nacks go out, what the channel holds is taken back and nacked, and the channel is closed;
//  2. receives that still run finish, or are cut; what they bring is nacked;
//  3. what is handed out is awaited, until settled, expired, or the waiting is given up;
//  4. the last settles go out, on a context of their own;
//  5. whoever waits in Close is told.
func (in *intake) wind() {
	in.mu.Lock()
	in.stopping = true // from here hold refuses, and nacks go out at once
	if in.stop.Err() == nil {
		in.err = in.fatal
	}
	in.mu.Unlock()
	in.halt()
	in.sendHeld(time.Now().Add(in.terms().ackWait)) // no nack is held longer than its lease
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
	in.await(time.Now())
	in.timer.Stop()
	if in.checking {
		<-in.checks // its ctx has ended
	}
	in.finish()
}

// await waits for the receives that run and the deliveries that are handed out.
func (in *intake) await(began time.Time) {
	for {
		now := time.Now()
		next := in.expire(now)
		in.mu.Lock()
		idle := len(in.polls) == 0 && (in.inFlight == 0 || in.cut.Err() != nil)
		drainUntil := began.Add(in.cfg.DrainTimeout)
		overdue := !in.closing && !now.Before(drainUntil)
		if !in.closing && drainUntil.Before(next) {
			next = drainUntil
		}
		in.mu.Unlock()
		if idle {
			return
		}
		if overdue && in.cut.Err() == nil {
			in.giveUp(context.DeadlineExceeded)
			continue
		}
		for _, p := range in.polls {
			until := began.Add(cutShortAfter)
			if p.wait > 0 {
				until = p.started.Add(cutLongAfter)
			}
			if !now.Before(until) {
				p.cancel()
			} else if until.Before(next) {
				next = until
			}
		}
		in.timer.Reset(time.Until(next))
		select {
		case a := <-in.answers:
			in.book(a)
			for _, d := range a.deliveries {
				in.settler.giveBack(d)
			}
		case <-in.kick:
		case <-in.timer.C:
		}
	}
}

// finish sends the last settles and says what was left.
func (in *intake) finish() {
	unknown := in.counts.unknown.Load()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.cut), in.terms().margin)
	defer cancel()
	acks, _ := in.settler.acks.close(ctx)
	nacks, _ := in.settler.nacks.close(ctx)
	in.mu.Lock()
	if in.cause != nil {
		e := &DrainError{Unsettled: in.inFlight, Unknown: len(acks) + int(in.counts.unknown.Load()-unknown), cause: in.cause}
		for _, x := range nacks {
			if !x.undelivered {
				e.Unknown++
			}
		}
		if e.Unsettled+e.Unknown > 0 {
			in.outcome = e
		}
	}
	in.mu.Unlock()
	in.sever()
	close(in.done)
}
