package sequin

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/sequin-go/sequin/internal/blame"
)

// This file handles batches that fail without a stated reason: a firewall's page, a 500 without a summary, a reset or a
// time-out. The cause may be the server, the network, or one message of the batch. Other sends show which it is: see
// internal/blame. A suspected batch becomes a candidate: it runs beside its lane, which goes on with messages of other
// keys. A control is another send whose result is compared with the batch's own.

// triesInPlace is how many attempts a batch gets in its lane before it becomes a candidate. Most failures have passed by the
// third attempt. These attempts send the same bytes with the same Idempotency-Key, which a server stores once.
const triesInPlace = 3

// controlsToGiveUp is how many controls in a row must fail before a batch fails because RetryFor is over, and before controls
// get more time. If half of the requests fail at random, that happens to one batch in 32.
const controlsToGiveUp = 5

// doubt is what is known about a batch that failed without a stated reason.
type doubt struct {
	refusals   int // failures before it became a candidate
	blame      blame.Case
	controls   int           // its own controls that failed in a row
	comparable bool          // controls must have about its size, because the size may be the cause
	timedOut   bool          // its latest attempt timed out, and no control was made since
	aloneSince time.Duration // when a candidate of one message was first attempted, counted from Publisher.started
}

// needsControl reports whether another send must have succeeded before the batch is attempted again.
func (d *doubt) needsControl(b *messageBatch) bool { return b.Candidate || d.refusals >= triesInPlace }

// refused returns the result of an attempt that failed without a stated reason. othersPassed says that another send of at
// least half its size succeeded meanwhile.
func (p *Publisher) refused(b *messageBatch, f requestFailure, err error, othersPassed bool) messageResult {
	w, single := &b.Work, len(b.Items) == 1
	lost, tooLarge := f.kind == kindLost, f.status() == http.StatusRequestEntityTooLarge
	if tooLarge && !single {
		if !b.Candidate {
			p.tracker.Failed()
		}
		return p.shrink(b, p.backoff(b, err))
	}
	// The controls of a single message that may fail are as large as the message, so that it does not fail because of its
	// size. For the decision to make a message a candidate, a control of any size will do.
	w.doubt.comparable = !tooLarge && (single && b.Candidate || lost && !single && !b.Candidate)
	p.tracker.Refused(&w.doubt.blame, w.leastControl(b))
	if b.Candidate {
		w.failures = 0
		return messageResult{Again: []*messageBatch{b}, Wait: p.client.cfg.Retry.wait(0, err)}
	}
	p.tracker.Failed()
	if lost {
		p.sizes.Failed(b.Lane(), len(w.body.JSON), time.Now())
	}
	w.doubt.refusals++
	if errors.Is(err, context.DeadlineExceeded) {
		if othersPassed {
			w.doubt.refusals = triesInPlace // another time-out in its lane would delay the lane for as long again
			return messageResult{Again: []*messageBatch{b}, Aside: true, Wait: p.client.cfg.Retry.wait(0, err)}
		}
		w.doubt.timedOut = true
	}
	return p.retry(b, err)
}

// passesOthers makes a control for a batch that has timed out in its lane while no other send succeeded, and reports whether
// the server accepts it. Then only this batch times out, and another time-out in its lane would delay the lane for as long
// again. It makes one control for each time-out.
func (p *Publisher) passesOthers(ctx context.Context, b *messageBatch) bool {
	d := &b.Work.doubt
	d.timedOut = false
	if err := p.control(ctx, b); err != nil {
		if f := classify(err); ctx.Err() == nil && f.subject != subjectLoad {
			p.tracker.Failed()
		}
		return false
	}
	d.refusals = triesInPlace
	return true
}

// overdue returns the result of an attempt that failed without a stated reason, and after which RetryFor is over. Perhaps nothing
// has been sent but this batch, and one of its messages is the cause. Controls decide that at once: if they fail, the messages
// fail; see afterControl.
func (p *Publisher) overdue(b *messageBatch) messageResult {
	d := &b.Work.doubt
	d.refusals, d.comparable = triesInPlace, false
	p.tracker.Refused(&d.blame, 0)
	if !b.Candidate {
		p.tracker.Failed()
	}
	return messageResult{Again: []*messageBatch{b}}
}

// leastControl returns the least size of a control of b: the size of a message that may fail, half the size of a batch that
// may be too large for the network, and otherwise 0.
func (w *batchState) leastControl(b *messageBatch) int {
	switch {
	case !w.doubt.comparable:
		return 0
	case len(b.Items) == 1:
		return len(w.body.JSON)
	}
	return len(w.body.JSON) / 2
}

// judge decides what to do with a batch in doubt. If no other send has succeeded since the batch failed last, judge first
// makes an empty send. decided is false if the batch is to be attempted now.
func (p *Publisher) judge(ctx context.Context, b *messageBatch) (r messageResult, decided bool) {
	d := &b.Work.doubt
	if !p.tracker.Controlled(&d.blame) {
		if err := p.control(ctx, b); err != nil {
			return p.afterControl(ctx, b, err), true
		}
	}
	d.controls = 0
	if !b.Candidate {
		return messageResult{Again: []*messageBatch{b}, Aside: true}, true
	}
	if d.aloneSince == 0 && len(b.Items) == 1 {
		d.aloneSince = time.Since(p.started)
	}
	switch p.tracker.Decide(&d.blame, len(b.Items)) {
	case blame.Fail:
		return p.fail(b, b.Work.last), true
	case blame.Split:
		left, right := p.halve(b)
		return messageResult{Again: []*messageBatch{left, right}}, true
	}
	return r, false
}

// control makes an empty send. It is as large as b if the size may be the cause, so that no message fails because a link or
// a proxy cannot carry its size. It times out as an attempt at a candidate does, so that a broken server among others that
// work delays no decision. After several controls that failed the time-out doubles with each, because the network may have
// become slower.
func (p *Publisher) control(ctx context.Context, b *messageBatch) error {
	d, size := &b.Work.doubt, 0
	if d.comparable {
		size = len(b.Work.body.JSON)
	}
	limit := p.timeout()
	doublings := min(max(0, d.controls-controlsToGiveUp), 16) // 16 are more than enough, and do not overflow
	timeout := min(limit, p.tracker.Timeout(size, limit)<<doublings)
	took, err := p.sendEmpty(ctx, size, timeout)
	if err != nil {
		return err
	}
	p.tracker.SucceededFor(&d.blame, size, took)
	// A load balancer may send requests to two servers in turn, one of which is broken. With exactly one control per attempt
	// all controls could reach the working server and all attempts the broken one. A random number of controls, one or two,
	// prevents that.
	if b.Candidate && rand.IntN(2) == 0 {
		if took, err := p.sendEmpty(ctx, size, timeout); err == nil {
			p.tracker.Succeeded(0, size, took)
		} else if ctx.Err() == nil {
			p.tracker.Failed()
		}
	}
	return nil
}

// afterControl returns the result for a batch in doubt whose control failed with err. The batch waits. If the control had
// the batch's size, and that may be more than the network carries, the batch is sent in smaller parts.
func (p *Publisher) afterControl(ctx context.Context, b *messageBatch, err error) messageResult {
	if ctx.Err() != nil {
		return messageResult{Again: []*messageBatch{b}}
	}
	w, f := &b.Work, classify(err)
	if f.subject == subjectAccess {
		p.suspend(err)
		return messageResult{Again: []*messageBatch{b}}
	}
	p.outage.Failed(err)
	if f.subject != subjectLoad {
		p.tracker.Failed()
	}
	w.doubt.controls++
	if p.cfg.RetryFor > 0 && p.exhausted(b)(&b.Items[0].Item) {
		if w.doubt.controls >= controlsToGiveUp || !p.reached.Load() {
			return p.failExhausted(b, w.last)
		}
		return messageResult{Again: []*messageBatch{b}, Wait: p.client.cfg.Retry.wait(0, err)}
	}
	wait := p.client.cfg.Retry.wait(w.failures+w.doubt.controls-1, err)
	sizeMatters := f.kind == kindLost || f.status() == http.StatusRequestEntityTooLarge
	if w.doubt.comparable && !b.Candidate && len(b.Items) > 1 {
		switch {
		case !sizeMatters:
			// A server, or a proxy in front of it, has answered. A small control shows whether it answers others the same.
			w.doubt.comparable = false
			p.tracker.Refused(&w.doubt.blame, 0)
		case len(w.body.JSON) > p.sizes.Limit(b.Lane()):
			return p.cutAnew(b, wait)
		}
	}
	return messageResult{Again: []*messageBatch{b}, Wait: wait}
}
