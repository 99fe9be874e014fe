// Package blame decides whether a batch that keeps failing fails because of a message in it.
//
// A send may fail without a stated reason: with a firewall's page, a reset, a time-out, or a 500 without a summary. The
// cause may be the server or a message. Only other sends can show which: a message is at fault if it fails every time
// and the sends between its attempts succeed. Such a send is a control.
//
// The promises:
//
//   - An innocent message is blamed with a probability below 10⁻⁶, if it fails at the same rate as controls. That rate is
//     assumed to be at least one half.
//   - While no control succeeds, no message is blamed and no batch is split: the server is unavailable.
//   - A message is not blamed because of its size, if the caller asks for controls of at least that size.
//   - At most 10 messages in a row are blamed on the evidence of empty sends only: a server that accepts nothing but empty
//     sends is unavailable, too.
//
// A Publisher owns one [Tracker], which holds the results of its recent sends, and one [Case] for each batch that failed
// without a stated reason. The package does not know HTTP or the contents of messages, and starts no goroutine. Its caller
// makes the attempts.
package blame

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"
)

const (
	// refusalsToSplit is how often a batch must be refused before it is split. Batches are split only while at most one
	// control in two fails. At that rate an innocent batch is split once in 32 times, which costs a few requests.
	refusalsToSplit = 5

	// certain is the evidence at which a message is blamed: -ln of 10⁻⁶, the probability that an innocent message is refused
	// as often. At a failure rate of one half that takes 20 refusals.
	certain = 13.8155

	// leastRate is the lowest failure rate that is assumed, because a few controls do not determine the true rate.
	leastRate = 0.5

	// maxFailedByEmpty is how many messages may be blamed on the evidence of empty sends only, since the latest success of a
	// send with messages.
	maxFailedByEmpty = 10

	// recentControls is how many controls the failure rate is computed from. With 32 the rate is accurate to about 0.1 and
	// follows a change of the server within seconds.
	recentControls = 32

	// fading is the share by which the slowest known success of a size fades with each further success of that size. After
	// 16 of them an eighth is left.
	fading = 8

	// smallBody is the size up to which a body is assumed to take as long as an empty one. It fits into the first round trips
	// of a new connection.
	smallBody = 256 << 10

	// slowness is how many times longer than the slowest recent success an attempt may take.
	slowness = 10

	// minTimeout is the shortest time-out of an attempt. A garbage collection or a lost packet delays an answer by less.
	minTimeout = time.Second
)

// Tracker records the results of a Publisher's recent sends. The zero value is ready to use. Its methods may be called
// concurrently.
type Tracker struct {
	mu            sync.Mutex  // guards all below; held for arithmetic only
	controlled    int         // controls recorded so far
	failed        uint32      // the latest recentControls of them, a bit for each: 1 if it failed
	successes     []successes // the smallest sends first; most Publishers send few sizes
	failedByEmpty int         // messages blamed on the evidence of empty sends only, since the latest success with messages
}

// successes are the controls of about one size that have succeeded. There is at least one.
type successes struct {
	class         int           // of their size
	filled, empty uint64        // how many so far: with messages, and without
	slowest       time.Duration // the slowest recent one
}

// largestClass stands for 16 MiB, more than a request can have.
const largestClass = 24

// class returns the class of a send of that many bytes. Class i is for those of at least 2^i and less than 2^(i+1) bytes.
func class(bytes int) int { return min(bits.Len(uint(max(1, bytes)))-1, largestClass) }

// ofLocked returns the successes of a class, which it adds where there were none.
func (t *Tracker) ofLocked(class int) *successes {
	i, found := slices.BinarySearchFunc(t.successes, class, func(s successes, class int) int { return s.class - class })
	if !found {
		t.successes = slices.Insert(t.successes, i, successes{class: class})
	}
	return &t.successes[i]
}

// atLeastLocked returns how many sends that succeeded surely had at least that many bytes.
func (t *Tracker) atLeastLocked(bytes int) (filled, empty uint64) {
	least := min(bits.Len(uint(max(1, bytes)-1)), largestClass)
	for i := range t.successes {
		if s := &t.successes[i]; s.class >= least {
			filled += s.filled
			empty += s.empty
		}
	}
	return filled, empty
}

// Succeeded records a send that succeeded and is a control: it holds none of the keys of a suspected batch. messages is
// how many it held; 0 is an empty send. bytes is the length of its body and took the time of the attempt.
func (t *Tracker) Succeeded(messages, bytes int, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recordLocked(true)
	s := t.ofLocked(class(bytes))
	if messages > 0 {
		s.filled++
		t.failedByEmpty = 0
	} else {
		s.empty++
	}
	s.slowest = max(took, s.slowest-s.slowest/fading, 1) // 0 would mean that nothing is known
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
	t.controlled++
	if t.failed <<= 1; !ok {
		t.failed |= 1
	}
}

// rateLocked returns the share of recent controls that failed.
func (t *Tracker) rateLocked() float64 {
	return float64(bits.OnesCount32(t.failed)) / float64(max(1, min(t.controlled, recentControls)))
}

// Timeout returns the time-out of an attempt at a suspected batch whose body has that many bytes. It is ten times as long as
// the slowest recent success of at least half its size, at least one second and at most limit. Without such a success it
// follows the largest ones there are, and grows in proportion to the size beyond 256 KiB. Without any success it is limit.
//
// Sends without messages are small and frequent while a batch is suspected. They must not decide the time-out of a large batch
// if anything else is known: if its attempts hang, each would take limit.
func (t *Tracker) Timeout(bytes int, limit time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	slowest, of := 0.0, class(bytes)-1
	for _, s := range slices.Backward(t.successes) { // the largest ones first
		if s.class >= of {
			slowest = max(slowest, float64(s.slowest))
			continue
		}
		if slowest == 0 {
			slowest = float64(s.slowest) * max(1, float64(bytes)/max(smallBody, float64(int(2)<<s.class)))
		}
		break
	}
	if slowest *= slowness; slowest == 0 || slowest >= float64(limit) {
		return limit
	}
	return min(max(time.Duration(slowest), minTimeout), limit)
}

// Case is the evidence about one batch that failed without a stated reason. The zero Case has no evidence. It belongs to the
// goroutine that attempts the batch, and is not safe for concurrent use.
type Case struct {
	refusals      int     // in a row, with a successful control between each two
	evidence      float64 // -ln of the probability that an innocent batch is refused as often between controls
	bracketed     bool    // a control succeeded before the latest refusal
	pending       bool    // the latest refusal has no successful control after it yet
	bytes         int     // least size of its controls
	filled, empty uint64  // the Tracker's successes of that size at the latest refusal
	own           bool    // a control made for it has succeeded since the latest refusal
	byMessages    bool    // a control with messages is part of the evidence
}

// Refused records that an attempt at the batch failed without a stated reason. Only sends of at least that many bytes are
// controls, for a failure that the size may have caused. 0 means that any size will do.
func (t *Tracker) Refused(c *Case, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case c.refusals == 0:
		c.refusals, c.bracketed = 1, false
	case !c.pending: // a control succeeded since the previous refusal; see Controlled
		c.refusals++
		c.bracketed = true
	}
	c.pending = true
	c.bytes, c.own = bytes, false
	c.filled, c.empty = t.atLeastLocked(bytes)
}

// Controlled reports whether a control has succeeded since the latest refusal of the batch. Otherwise another attempt would
// add no evidence. It is also true for a batch that was not refused yet.
func (t *Tracker) Controlled(c *Case) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.controlledLocked(c)
}

func (t *Tracker) controlledLocked(c *Case) bool {
	filled, empty := t.atLeastLocked(c.bytes)
	return !c.pending || c.own || filled > c.filled || empty > c.empty
}

// Decision is what to do with a batch that failed without a stated reason.
type Decision uint8

// The decisions.
const (
	Wait  Decision = iota // no control has succeeded since the latest refusal: wait for one
	Retry                 // attempt the batch again
	Split                 // attempt its halves, each with a new Case
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
			filled, _ := t.atLeastLocked(c.bytes)
			c.byMessages = c.byMessages || filled > c.filled
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
