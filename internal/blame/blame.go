// Package blame decides whether a batch that keeps failing fails because of a message in it.
//
// A refusal without a reason (a firewall's page, a reset, a time-out, a 500 without a summary) may come from the state of
// the server or from a message. Only other sends can tell: a message is at fault when it fails every time while sends
// made between its attempts succeed. Such a send is a control.
//
// The promises:
//
//   - An innocent message fails with a probability below 10⁻⁶, at the rate at which controls fail, which is taken as at
//     least one half.
//   - Nothing fails and nothing is split while no control succeeds: the server is unavailable then.
//   - A message does not fail because of its size: its controls are at least as large, if the caller says so.
//   - Controls without messages alone fail fewer than 10 messages in a row: a server that accepts nothing but empty sends
//     is unavailable, too.
//
// A Publisher owns one [Tracker], which holds what is known of its recent sends, and one [Case] for each batch that was
// refused without a reason. The package knows no HTTP, no messages and no goroutines; its caller makes the attempts.
package blame

import (
	"math"
	"math/bits"
	"sync"
	"time"
)

const (
	// refusalsToSplit is how often a batch must be refused before it is split. One refusal in two is the worst rate at
	// which batches are split at all; an innocent batch is then split once in 32 times, at the cost of a few requests.
	refusalsToSplit = 5

	// certain is the evidence that fails a message: -ln of the probability of 10⁻⁶ that an innocent one is refused as
	// often. It takes 20 refusals at a failure rate of one half.
	certain = 13.8155

	// leastRate is the lowest failure rate that is assumed, because few controls say little about the true rate.
	leastRate = 0.5

	// maxFailedByEmpty is how many messages may fail by empty sends alone since a send with messages succeeded.
	maxFailedByEmpty = 10

	// recentControls is how many controls the failure rate is computed from: enough for a rate within 0.1, few enough to
	// follow a change of the server within seconds.
	recentControls = 32

	// recentSuccesses is how many successful sends the time-out of a suspected batch is computed from.
	recentSuccesses = 16

	// slowness is how many times slower than any recent success an attempt may be before it is given up.
	slowness = 10

	// minTimeout is the shortest time-out of an attempt. A garbage collection or a lost packet takes less.
	minTimeout = time.Second
)

// Tracker records the results of a Publisher's recent sends. The zero value is ready to use. Its methods may be called
// concurrently.
type Tracker struct {
	mu            sync.Mutex // guards all below; held for arithmetic only
	controls      [recentControls]bool
	controlled    int    // controls recorded so far
	real, empty   counts // successful controls so far: with messages, and without
	failedByEmpty int    // messages failed by empty sends alone since the last success with messages
	successes     [recentSuccesses]success
	succeeded     int // successes recorded so far
}

// counts are numbers of sends by size: the element i counts those of 2^i bytes to twice that. The last one is of 16 MiB,
// more than a request can have.
type counts [25]uint64

func (c *counts) add(bytes int) { c[min(bits.Len(uint(max(1, bytes)))-1, len(c)-1)]++ }

// atLeast returns how many of the sends surely had that many bytes.
func (c *counts) atLeast(bytes int) (n uint64) {
	for _, of := range c[min(bits.Len(uint(max(1, bytes)-1)), len(c)-1):] {
		n += of
	}
	return n
}

type success struct {
	bytes int
	took  time.Duration
}

// Succeeded records a send that succeeded and is a control: it holds none of the keys of a suspected batch. messages is
// how many it held; 0 is an empty send. bytes is the length of its body and took the time of the attempt.
func (t *Tracker) Succeeded(messages, bytes int, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recordLocked(true)
	if messages > 0 {
		t.real.add(bytes)
		t.failedByEmpty = 0
	} else {
		t.empty.add(bytes)
	}
	t.successes[t.succeeded%recentSuccesses] = success{bytes, took}
	t.succeeded++
}

// SucceededFor records an empty send that was made as a control of c, and is as large as c asks.
func (t *Tracker) SucceededFor(c *Case, bytes int, took time.Duration) {
	t.Succeeded(0, bytes, took)
	c.own = true
}

// Failed records a control that failed for any reason other than load.
func (t *Tracker) Failed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recordLocked(false)
}

func (t *Tracker) recordLocked(ok bool) {
	t.controls[t.controlled%recentControls] = ok
	t.controlled++
}

// rateLocked returns the share of recent controls that failed.
func (t *Tracker) rateLocked() float64 {
	n := min(t.controlled, recentControls)
	failed := 0
	for _, ok := range t.controls[:n] {
		if !ok {
			failed++
		}
	}
	if n == 0 {
		return 0
	}
	return float64(failed) / float64(n)
}

// Timeout returns how long an attempt at a suspected batch may take whose body has that many bytes: ten times the slowest
// recent success, scaled to the size, and between one second and limit. Without a recent success it returns limit.
func (t *Tracker) Timeout(bytes int, limit time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(t.succeeded, recentSuccesses)
	if n == 0 {
		return limit
	}
	slowest := 0.0
	for _, s := range t.successes[:n] {
		scale := max(1, float64(bytes)/float64(max(1, s.bytes)))
		slowest = max(slowest, float64(s.took)*scale)
	}
	if slowest *= slowness; slowest >= float64(limit) {
		return limit
	}
	return min(max(time.Duration(slowest), minTimeout), limit)
}

// Case is what is known of one batch that was refused without a reason. The zero Case is open and empty. It belongs to
// whoever attempts the batch, and is not safe for concurrent use.
type Case struct {
	refusals    int     // in a row, with a successful control between each two
	evidence    float64 // -ln of the probability that an innocent batch is refused as often between controls
	bracketed   bool    // a control succeeded before the latest refusal
	pending     bool    // the latest refusal has no successful control after it yet
	bytes       int     // the least size of its controls
	real, empty uint64  // the Tracker's successes of that size at the latest refusal
	own         bool    // a control was made for it since
	byMessages  bool    // a control with messages succeeded next to a refusal that counts
}

// Refused records that an attempt at the batch was refused without a reason, or got no answer. Only sends of at least that
// many bytes are controls: the refusal may be about the size. 0 means that any size will do.
func (t *Tracker) Refused(c *Case, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case c.refusals == 0:
		c.refusals, c.bracketed = 1, false
	case !c.pending: // a control succeeded since the refusal before, see Controlled
		c.refusals++
		c.bracketed = true
	}
	c.pending = true
	c.bytes, c.own = bytes, false
	c.real, c.empty = t.real.atLeast(bytes), t.empty.atLeast(bytes)
}

// Controlled reports whether a control has succeeded since the batch was refused last. Only then another attempt tells
// anything. It is also true for a batch that was not refused yet.
func (t *Tracker) Controlled(c *Case) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.controlledLocked(c)
}

func (t *Tracker) controlledLocked(c *Case) bool {
	return !c.pending || c.own || t.real.atLeast(c.bytes) > c.real || t.empty.atLeast(c.bytes) > c.empty
}

// Decision is what to do with a batch that was refused without a reason.
type Decision uint8

// The decisions.
const (
	Wait  Decision = iota // no control has succeeded since: attempt nothing, wait for one
	Retry                 // attempt the batch again
	Split                 // attempt its halves, each with a Case of its own
	Fail                  // its only message is at fault
)

// Decide returns what to do with a batch that holds the given number of messages.
func (t *Tracker) Decide(c *Case, messages int) Decision {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.controlledLocked(c) {
		return Wait
	}
	rate := t.rateLocked()
	if c.pending {
		c.pending = false
		if c.bracketed {
			c.evidence -= math.Log(max(rate, leastRate))
			c.byMessages = c.byMessages || t.real.atLeast(c.bytes) > c.real
		}
	}
	switch {
	case messages > 1:
		if c.refusals >= refusalsToSplit && rate <= leastRate {
			return Split
		}
	case c.evidence >= certain && c.byMessages:
		return Fail
	case c.evidence >= certain && t.failedByEmpty < maxFailedByEmpty:
		t.failedByEmpty++
		return Fail
	}
	return Retry
}
