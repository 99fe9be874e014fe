package sequin

import (
	"log/slog"
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
	shelf   []*lease     // of what is in the channel, in its order
	used    [][]Delivery // the room of answers that were dealt with, no more than there were receives at once

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
	blind     int  // looks that failed since
	fatal     error
}

func newIntake(s *Subscriber) *intake {
	return &intake{Subscriber: s, answers: make(chan answer, s.cfg.Pollers), checks: make(chan check, 1),
		timer: time.NewTimer(0), window: newWindow(s.cfg, &s.tempo), nextCheck: time.Now().Add(aboutAMinute())}
}

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

// never is when to look again where only an event can change anything.
const never = time.Hour

// look does whatever is due at now, and sets the timer to when something is due next.
func (in *intake) look(now time.Time) {
	next := now.Add(never)
	soonest := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	in.clearShelf(now)
	if near, ok := in.nearest(); ok && past(now, near) {
		in.takeBack(now)
	}
	if near, ok := in.nearest(); ok {
		soonest(near)
		soonest(now.Add(in.window.gauge(len(in.deliveries))))
	}
	if l := in.lateLease.Swap(nil); l != nil {
		in.window.late(l)
	}
	soonest(in.expire(now))
	soonest(in.sendHeld(now))
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

// clearShelf drops the leases whose last message has left the channel.
func (in *intake) clearShelf(now time.Time) {
	handed := in.handed()
	n := 0
	for n < len(in.shelf) && in.shelf[n].to <= handed {
		in.window.taken(now, in.shelf[n])
		in.shelf[n] = nil
		n++
	}
	in.shelf = in.shelf[n:]
}

// nearest returns when the first lease in the channel comes near its end. Two receives may be answered in another order
// than they were made in, so it need not be the first of the shelf's.
func (in *intake) nearest() (near time.Time, ok bool) {
	for _, l := range in.shelf {
		if !ok || l.near.Before(near) {
			near, ok = l.near, true
		}
	}
	return near, ok
}

// push hands d over. It has room: the channel holds MaxInFlight, and whatever is in it is in flight.
func (in *intake) push(d *Delivery) {
	select {
	case in.deliveries <- *d:
		l := d.state.lease
		l.to = in.counts.pushed.Add(1)
		if n := len(in.shelf); n == 0 || in.shelf[n-1] != l {
			in.shelf = append(in.shelf, l)
		}
	default:
		in.settler.giveBack(*d)
	}
}

// takeBack empties the channel, gives back what is near the end of its lease, and sends the rest again, in order.
func (in *intake) takeBack(now time.Time) {
	handed, was := in.handed(), in.shelf
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
	in.shelf = nil
	late := 0
	for i := range all {
		if d := &all[i]; past(now, d.state.lease.near) {
			late++
			in.settler.giveBack(*d)
		} else {
			in.push(d)
		}
	}
	if late == 0 {
		return
	}
	in.counts.expired.Add(uint64(late))
	for _, l := range was {
		if past(now, l.near) {
			l.shelved.Store(int64(now.Sub(l.began)))
			in.window.expired(l, handed-min(handed, l.behind))
		}
	}
	in.log(slog.LevelWarn, "gives back what nobody took in time", "deliveries", late, "in flight at most", in.window.size)
}

// expire gives back the room of leases that are over, and returns when the next one ends.
func (in *intake) expire(now time.Time) (next time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for l := in.leases.first; l != nil; l = in.leases.first {
		if !past(now, l.until) {
			return l.until
		}
		if l.open > 0 && l.settles == in.tempo.settles.Load() && len(in.deliveries) == 0 {
			in.window.stuck(l)
		}
		in.inFlight -= l.room
		l.room, l.open = 0, 0
		in.leases.remove(l)
	}
	return now.Add(never)
}

// sendHeld sends the held nacks that are due, and returns when the next one is.
func (in *intake) sendHeld(now time.Time) (next time.Time) {
	in.mu.Lock()
	due := 0
	for due < len(in.held) && !in.held[due].at.After(now) {
		due++
	}
	ready := in.held[:due:due]
	in.held = in.held[due:]
	next = now.Add(never)
	if len(in.held) > 0 {
		next = in.held[0].at
	}
	in.mu.Unlock()
	in.sendNow(ready)
	return next
}

// sendNow sends nacks that were held.
func (in *intake) sendNow(held []heldNack) {
	for _, h := range held {
		_ = in.settler.nack(h.settling, time.Time{}, 0) // closed only by finish, which runs on this goroutine
	}
}
