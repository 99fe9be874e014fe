package sequin

import (
	"slices"
	"sync"
	"time"
)

// failuresToSlow is how many handler calls in a row must fail before a Subscriber slows down: enough that a few bad
// messages in a quiet stream do not do it, few enough that an outage costs little more than what is in flight anyway.
const failuresToSlow = 10

// throttle slows a Subscriber down while its handlers do nothing but fail, say because a database is down. Then workers
// give back what is buffered, to be had by others, and one message at a time is let through, the probe, at a pace that
// slows down with each failure. One success lifts it. (The worker whose call was the last to fail is free to empty the
// buffer, however busy the others are.)
//
// Only calls that hold a message which never failed before count towards it: one that fails again and again says
// something about itself. Once so many fail that they can no longer be held back, all calls count: they would be tried
// over and over without a pause.
type throttle struct {
	mu    sync.Mutex // guards all below; held for arithmetic only
	pace  RetryConfig
	run   int                 // failed calls in a row
	steps int                 // how often it slowed down; 0 is full speed
	until time.Time           // no probe before
	probe *deliveryState      // who is let through
	fresh func(Delivery) bool // reports whether a message has never failed: such a one makes the better probe
}

func (t *throttle) setPace(pace RetryConfig, fresh func(Delivery) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pace, t.fresh = pace, fresh
}

// slow reports whether the throttle is on, and from when on the next probe may be had.
func (t *throttle) slow() (on bool, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.steps > 0, t.until
}

// reach is how many messages a receive asks for to find a probe: more with each step, because those that come first may
// be those that fail whatever the handler's state.
func (t *throttle) reach() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return 1 << min(max(t.steps-1, 0), 16)
}

// best moves the best probe to the front.
func (t *throttle) best(got []Delivery) {
	t.mu.Lock()
	on, fresh := t.steps > 0, t.fresh
	t.mu.Unlock()
	if !on || fresh == nil {
		return
	}
	if i := slices.IndexFunc(got, fresh); i > 0 {
		got[0], got[i] = got[i], got[0]
	}
}

// lets reports whether a delivery that has just arrived may be handed over. While the throttle is on it becomes the
// probe, where one is due. Another one is due when the probe's lease comes near its end without a word of it.
func (t *throttle) lets(d Delivery, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.steps == 0 {
		return true
	}
	if now.Before(t.until) {
		return false
	}
	t.probe, t.until = d.state, d.state.lease.near
	return true
}

// admits reports whether a handler may be called with what was handed over.
func (t *throttle) admits(d Delivery) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.steps == 0 || d.state == t.probe
}

// passed notes a call that succeeded. It reports whether that lifted the throttle.
func (t *throttle) passed() (lifted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lifted = t.steps > 0
	t.run, t.steps, t.probe = 0, 0, nil
	return lifted
}

// failed notes a call that failed; fresh says that one of its messages had never failed before. A call that began before
// the throttle's last step says nothing new. It reports whether it made a step, and how long it waits then.
func (t *throttle) failed(batch []Delivery, fresh bool, now time.Time) (stepped bool, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.steps > 0 && !t.isProbeLocked(batch):
		return false, 0
	case t.steps == 0:
		if fresh {
			t.run++
		}
		if t.run < failuresToSlow {
			return false, 0
		}
	}
	wait = t.pace.wait(t.steps, nil)
	t.steps++
	t.until, t.probe = now.Add(wait), nil
	return true, wait
}

// undecided notes a call whose failure was the message's own: another probe may follow at once.
func (t *throttle) undecided(batch []Delivery, now time.Time) (next bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.steps == 0 || !t.isProbeLocked(batch) {
		return false
	}
	t.until, t.probe = now, nil
	return true
}

func (t *throttle) isProbeLocked(batch []Delivery) bool {
	for _, d := range batch {
		if d.state == t.probe {
			return true
		}
	}
	return false
}
