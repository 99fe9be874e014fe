package sequin

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/sequin-go/sequin/internal/blame"
)

// This file says what becomes of a batch that was refused without a reason, or got no answer: by a firewall's page, a bare
// 500, a reset, a time-out. The server may be in trouble, or the way to it, or one message of the batch may be what makes
// it fail. internal/blame has the rules by which other sends decide.

// triesInPlace is how often a batch is attempted before its messages are suspected, or their number: once, and twice more
// as it is. Most troubles are over by then, and the same bytes under the same key never store a message twice.
const triesInPlace = 3

// doubt is what is known of a batch that was refused without a reason.
type doubt struct {
	refusals   int // before it became a candidate
	blame      blame.Case
	controls   int           // its own controls that failed in a row
	comparable bool          // a control of about its size is needed: the refusal may be about the size
	aloneSince time.Duration // when a candidate of one message was first attempted, counted from Publisher.started
}

// needsControl reports whether the batch is attempted again only after another send has succeeded.
func (d *doubt) needsControl(b *messageBatch) bool { return b.Candidate || d.refusals >= triesInPlace }

// refused returns what becomes of a batch that was refused without a reason. othersPassed says that another send of about
// its size succeeded meanwhile.
func (p *Publisher) refused(b *messageBatch, f requestFailure, err error, othersPassed bool) messageResult {
	w, single := &b.Work, len(b.Items) == 1
	lost, tooLarge := f.kind == kindLost, f.status() == http.StatusRequestEntityTooLarge
	if tooLarge && !single {
		if !b.Candidate {
			p.tracker.Failed()
		}
		return p.shrink(b, p.backoff(b, err))
	}
	// A message must not fail because of its size. To set it aside, it is enough that anything gets through.
	w.doubt.comparable = !tooLarge && (single && b.Candidate || lost && !single && !b.Candidate)
	p.tracker.Refused(&w.doubt.blame, w.leastControl(b))
	if b.Candidate {
		w.failures = 0
		return messageResult{Again: []*messageBatch{b}, Wait: p.client.cfg.Retry.wait(0, err)}
	}
	p.tracker.Failed()
	if lost {
		p.size(b).Failed(len(w.body.JSON), time.Now())
	}
	if w.doubt.refusals++; othersPassed && errors.Is(err, context.DeadlineExceeded) {
		w.doubt.refusals = triesInPlace // it need not hold up its lane for as long again
		return messageResult{Again: []*messageBatch{b}, Aside: true, Wait: p.client.cfg.Retry.wait(0, err)}
	}
	return p.retry(b, err)
}

// leastControl returns how large a send must be to be a control of b: as large as a message that may fail, and half as
// large as a batch that may be too large for the way to the server.
func (w *batchState) leastControl(b *messageBatch) int {
	switch {
	case !w.doubt.comparable:
		return 0
	case len(b.Items) == 1:
		return len(w.body.JSON)
	}
	return len(w.body.JSON) / 2
}

// judge decides what becomes of a batch in doubt once another send has succeeded since it was refused last. Where none has,
// judge makes one without messages. decided is false if the batch is to be attempted.
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

// control makes an empty send. It is as large as b where the refusal may be about the size, so that a link or a proxy that
// cannot carry as much is not blamed on a message.
func (p *Publisher) control(ctx context.Context, b *messageBatch) error {
	size := 0
	if b.Work.doubt.comparable {
		size = len(b.Work.body.JSON)
	}
	took, err := p.sendEmpty(ctx, size)
	if err != nil {
		return err
	}
	p.tracker.SucceededFor(&b.Work.doubt.blame, size, took)
	// A balancer may send requests to its servers in turn, one of which is broken. One control for each attempt would always
	// meet the same server, and each attempt the other one. One or two at random do not.
	if b.Candidate && rand.IntN(2) == 0 {
		if took, err := p.sendEmpty(ctx, size); err == nil {
			p.tracker.Succeeded(0, size, took)
		} else if ctx.Err() == nil {
			p.tracker.Failed()
		}
	}
	return nil
}

// afterControl returns what becomes of a batch in doubt whose control ended with err: it waits. A batch whose control of the
// same size fails as well is sent in smaller parts: nothing larger may get through.
func (p *Publisher) afterControl(ctx context.Context, b *messageBatch, err error) messageResult {
	if ctx.Err() != nil {
		return messageResult{Again: []*messageBatch{b}}
	}
	w, f := &b.Work, classify(err)
	if f.subject == subjectAccess {
		p.suspend(err)
		return messageResult{Again: []*messageBatch{b}}
	}
	p.trouble.begin(err)
	if f.subject != subjectLoad {
		p.tracker.Failed()
	}
	if p.cfg.RetryFor > 0 && p.exhausted(b)(&b.Items[0].Item) {
		return p.failExhausted(b, w.last)
	}
	w.doubt.controls++
	wait := p.client.cfg.Retry.wait(w.failures+w.doubt.controls-1, err)
	sizeMatters := f.kind == kindLost || f.status() == http.StatusRequestEntityTooLarge
	if w.doubt.comparable && sizeMatters && !b.Candidate && len(b.Items) > 1 && len(w.body.JSON) > p.size(b).Limit() {
		return p.cutAnew(b, wait)
	}
	return messageResult{Again: []*messageBatch{b}, Wait: wait}
}
