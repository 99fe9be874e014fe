package sequin

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/blame"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// This file sends the batches of a Publisher, and decides what to do with a batch after the server's answer:
//
//   - 2xx: its messages are sent.
//   - 400 or 422: it is halved, until the invalid messages are alone; these fail.
//   - 413: it is sent in smaller parts. A message that Sequin itself refuses alone fails.
//   - 401, 403 or 404 of Sequin itself: its messages fail, and the Publisher suspends sending.
//   - 408, 409, 429, 5xx, an answer that is not Sequin's own, or none: it is retried. See publisher_doubt.go for the case
//     that one of its messages is at fault.

type (
	messageEngine = batch.Engine[outgoing, batchState]
	messageBatch  = batch.Batch[outgoing, batchState]
	messageResult = batch.Result[outgoing, batchState]
	messageEntry  = batch.Entry[outgoing]
)

// outgoing is a message in the Publisher's buffer. Its strings are the caller's own; a string cannot change.
type outgoing struct {
	Message
	// tried is the time of its first attempt, counted from Publisher.started; 0 means none. It is set only if RetryFor is
	// set.
	tried time.Duration
	// to gets the final result of the message, together with slot. It is nil if nobody waits for the result.
	to    completer
	slot  int32
	quiet bool // it comes from the Handler of Config.Logger
	// lease is the lease of the delivery that the message was made from; nil for none. See admitFor.
	lease *lease.Lease
	// added has all headers of the message, with those that Hooks.Send has added; nil for none. The Message keeps its own, because
	// the program may get it back.
	added map[string]string
}

// completer gets the final result of each of its messages once. Complete reports whether a goroutine may have waited for the result.
type completer interface {
	Complete(slot int, err error) (woke bool)
}

// expired reports whether the message was made from a delivery whose lease has ended. Such a message is not sent, because
// it is made again from the next delivery.
func (o *outgoing) expired(now time.Time) bool {
	return o.lease != nil && (lease.Past(now, o.lease.Deadline) || o.lease.Parent.Err() != nil)
}

// batchState is what the Publisher knows about a batch between attempts. An attempt is one request.
type batchState struct {
	body           *transport.Payload // encoded once: a retry sends the same bytes
	idempotencyKey string             // of body
	headers        bool               // one of its messages has headers; set with body
	quiet          bool               // all its messages are quiet; set with body
	partOf         []string           // Idempotency-Keys of sends with all its messages that may be stored; latest first
	attempts       int
	failures       int   // in a row; determines the backoff
	mayBeStored    bool  // the server may have stored it in an attempt that failed
	uncut          bool  // it may be larger than its lane's current size, and is cut before it is sent
	last           error // error of the latest attempt
	half           half
	doubt          doubt
}

// aloneSince returns when a candidate of one message was first attempted, counted from Publisher.started; 0 before that.
func (w *batchState) aloneSince() time.Duration { return w.doubt.aloneSince }

// half marks a batch as the left or right half of one that was refused as invalid. Once the left half is accepted, the
// right one must hold an invalid message and is split without being sent. The zero value marks a batch that is not a half.
type half struct {
	left         bool
	leftAccepted *atomic.Bool // shared by both halves, which may be sent at once: one of them may be a candidate
}

func newHalves() (left, right half) {
	accepted := new(atomic.Bool)
	return half{left: true, leftAccepted: accepted}, half{leftAccepted: accepted}
}

// noteAccepted records that the server accepted the half.
func (h half) noteAccepted() {
	if h.left {
		h.leftAccepted.Store(true)
	}
}

// surelyInvalid reports whether the half is known to hold an invalid message.
func (h half) surelyInvalid() bool { return h.leftAccepted != nil && !h.left && h.leftAccepted.Load() }

// run decides what to do with a batch, makes at most one attempt at it, and returns the result. It is Config.Run of the
// engine.
func (p *Publisher) run(ctx context.Context, b *messageBatch) messageResult {
	w := &b.Work
	p.noteLeft(b)
	if b.Skipped {
		p.learnDuplicateKeys()
	}
	if r, dropped := p.dropExpired(b, time.Now()); dropped {
		return r
	}
	if w.half.surelyInvalid() && len(b.Items) > 1 {
		return p.bisect(b)
	}
	if w.uncut && !b.Candidate {
		if r, cut := p.cutToSize(b); cut {
			return r
		}
	}
	if w.body == nil {
		p.encode(b, p.client.takesAdded(ctx, p.stream))
	}
	if w.headers {
		if r, refused := p.refuseHeaders(ctx, b); refused {
			return r
		}
	}
	if w.doubt.needsControl(b) {
		if r, decided := p.judge(ctx, b); decided {
			return r
		}
	} else if w.doubt.timedOut && p.passesOthers(ctx, b) {
		return messageResult{Again: []*messageBatch{b}, Aside: true}
	}
	return p.attempt(ctx, b)
}

// noteLeft reports a batch that has just left the buffer.
func (p *Publisher) noteLeft(b *messageBatch) {
	h := p.client.hooks
	if h == nil || b.Why == 0 {
		return
	}
	bytes := wire.SendOverhead
	for i := range b.Items {
		bytes += b.Items[i].Size
	}
	h.batch(BatchInfo{Stream: p.stream, Messages: len(b.Items), Bytes: bytes, Reason: b.Why.String(), Waited: b.Left.Sub(b.Since)})
	b.Why = 0
}

// attempt sends a batch once.
func (p *Publisher) attempt(ctx context.Context, b *messageBatch) messageResult {
	w := &b.Work
	bytes := len(w.body.JSON)
	turn, err := p.link.Begin(ctx, bytes)
	if err != nil {
		return messageResult{Again: []*messageBatch{b}}
	}
	if turn.Waited {
		if r, dropped := p.dropExpired(b, time.Now()); dropped {
			p.link.End(bytes)
			return r
		}
	}
	options := sendOptions{idempotencyKey: w.idempotencyKey, partOf: w.partOf, headers: w.headers, retry: neverRetry, messages: len(b.Items), quiet: w.quiet}
	if b.Candidate {
		options.timeout = p.tracker.Timeout(bytes, p.timeout())
	}
	var others blame.Case // shows whether another send of at least half that size succeeds meanwhile
	p.tracker.Refused(&others, bytes/2)
	var result SendResult
	began := time.Now()
	err = p.client.send(ctx, p.stream, w.body, options, &result)
	took := time.Since(began)
	p.link.End(bytes)
	p.counts.attempt(bytes, err, w.attempts > 0)
	w.attempts++
	if err == nil || err == errHeadersDropped {
		p.sent(b, bytes, took)
		others, failed := b.Items, []messageEntry(nil)
		if err != nil {
			others, failed = p.splitHeaders(b, err)
		}
		return messageResult{Done: others, Failed: failed, Err: err}
	}
	if ctx.Err() != nil {
		return messageResult{Again: []*messageBatch{b}}
	}
	othersPassed := p.tracker.Controlled(&others)
	if !othersPassed && !b.Candidate && len(b.Items) == 1 && errors.Is(err, context.DeadlineExceeded) {
		p.link.TimedOut(bytes, turn)
	}
	return p.afterFailure(b, err, othersPassed)
}

// sent records that the server accepted a batch.
func (p *Publisher) sent(b *messageBatch, bytes int, took time.Duration) {
	if !b.Candidate { // a candidate is not a control, whether it succeeds or fails
		p.tracker.Succeeded(len(b.Items), bytes, took)
		p.sizes.Succeeded(b.Lane(), bytes, took, p.timeout(), time.Now())
	}
	p.link.Succeeded(bytes, took, p.timeout())
	if !p.delivered.Load() {
		p.delivered.Store(true)
	}
	p.gotThrough()
	b.Work.half.noteAccepted()
	bodies.Put(b.Work.body)
}

// afterFailure returns the result of an attempt that failed with err. othersPassed says that another send of at least half
// its size succeeded meanwhile.
func (p *Publisher) afterFailure(b *messageBatch, err error, othersPassed bool) messageResult {
	w, f, single := &b.Work, classify(err), len(b.Items) == 1
	w.last = err
	w.mayBeStored = w.mayBeStored || f.mayHaveActed
	switch {
	case f.subject == subjectRequest && single:
		return p.fail(b, err)
	case f.kind == kindInvalid: // 400, 422
		return p.bisect(b)
	case f.kind == kindRequestTooLarge: // 413 of Sequin itself
		return p.shrink(b, 0)
	case f.subject == subjectAccess: // 401, 403, 404
		p.suspend(err)
		return p.fail(b, err)
	case f.unserved() && !p.reached.Load():
		p.suspend(err) // the URL may be wrong: no send has succeeded yet
		return messageResult{Again: []*messageBatch{b}}
	}
	p.outage.Failed(err)
	switch {
	case p.cfg.RetryFor > 0 && p.exhausted(b)(&b.Items[0].Item):
		if f.subject == subjectUnclear && w.aloneSince() == 0 {
			return p.overdue(b)
		}
		return p.failExhausted(b, err)
	case f.subject == subjectUnclear:
		return p.refused(b, f, err, othersPassed)
	case f.subject == subjectOutage && !b.Candidate:
		p.tracker.Failed()
	}
	return p.retry(b, err)
}

// retry sends the same bytes again after a backoff.
func (p *Publisher) retry(b *messageBatch, err error) messageResult {
	return messageResult{Again: []*messageBatch{b}, Wait: p.backoff(b, err)}
}

// backoff counts a failure of the batch and returns the wait after it.
func (p *Publisher) backoff(b *messageBatch, err error) time.Duration {
	b.Work.failures++
	return p.client.cfg.Retry.wait(b.Work.failures-1, err)
}

// fail fails all messages of a batch.
func (p *Publisher) fail(b *messageBatch, err error) messageResult {
	p.logFailed(b.Items, err)
	return messageResult{Failed: b.Items, Err: err}
}

// part returns a new batch with some of b's items.
func (p *Publisher) part(b *messageBatch, items []messageEntry) *messageBatch {
	return &messageBatch{Items: items, Work: partWork(b)}
}

// maxPartOf limits how many earlier sends a part names. It is twice the ten times that a batch of 1,000 messages can be
// halved. A batch that is cut more often has been retried for so long that the server has forgotten the first sends.
const maxPartOf = 20

// partWork returns the state of a new batch with some of b's items. If b may have been stored, the new batch names b's
// Idempotency-Key, so that a server that knows Sequin-Part-Of does not store the messages again.
func partWork(b *messageBatch) batchState {
	partOf := b.Work.partOf
	if b.Work.mayBeStored {
		partOf = append([]string{b.Work.idempotencyKey}, partOf[:min(len(partOf), maxPartOf-1)]...)
	}
	return batchState{partOf: partOf}
}

// halve returns the two halves of a batch as new batches.
func (p *Publisher) halve(b *messageBatch) (left, right *messageBatch) {
	left, right = b.Halve()
	left.Work, right.Work = partWork(b), partWork(b)
	return left, right
}

// bisect halves a batch that was refused as invalid (400, 422), so that in the end an invalid message fails alone. An
// invalid message in the left half costs two requests per step, one in the right half only one. The left half is therefore
// the smaller one.
func (p *Publisher) bisect(b *messageBatch) messageResult {
	left, right := p.halve(b)
	left.Work.half, right.Work.half = newHalves()
	return messageResult{Again: []*messageBatch{left, right}}
}

// shrink reduces the size that the lane sends, and cuts a batch that was too large (413) to that size. A candidate is only
// halved.
func (p *Publisher) shrink(b *messageBatch, wait time.Duration) messageResult {
	if b.Candidate {
		left, right := p.halve(b)
		return messageResult{Again: []*messageBatch{left, right}, Wait: wait}
	}
	p.sizes.Failed(b.Lane(), len(b.Work.body.JSON), time.Now())
	if len(b.Work.body.JSON) > p.sizes.Limit(b.Lane()) {
		return p.cutAnew(b, wait)
	}
	left, right := p.halve(b)
	left.Work.failures = b.Work.failures
	return messageResult{Again: []*messageBatch{left, right}, Wait: wait}
}

// cutAnew sends a batch again after wait, in parts of the size that its lane sends then.
func (p *Publisher) cutAnew(b *messageBatch, wait time.Duration) messageResult {
	rest := p.part(b, b.Items)
	rest.Work.uncut, rest.Work.failures = true, b.Work.failures
	return messageResult{Again: []*messageBatch{rest}, Wait: wait}
}

// cutToSize cuts the first part off a batch that is larger than its lane's current size. The rest waits until that part is
// sent and is cut then, because the size may have changed. cut is false if the batch is small enough.
func (p *Publisher) cutToSize(b *messageBatch) (r messageResult, cut bool) {
	size, limit, n := wire.SendOverhead, p.sizes.Limit(b.Lane()), 0
	for n < len(b.Items) && (n == 0 || size+b.Items[n].Size <= limit) {
		size += b.Items[n].Size
		n++
	}
	if n == len(b.Items) {
		return r, false
	}
	first, rest := p.part(b, b.Items[:n:n]), p.part(b, b.Items[n:])
	first.Work.failures, rest.Work.uncut = b.Work.failures, true
	return messageResult{Again: []*messageBatch{first, rest}}, true
}

// timeout returns how long an attempt may take.
func (p *Publisher) timeout() time.Duration { return p.client.attemptTimeout(request{}) }

// dropExpired fails the messages whose leases ended before they were sent. The others become a new batch, with its own body
// and Idempotency-Key. dropped is false if no message has expired.
func (p *Publisher) dropExpired(b *messageBatch, now time.Time) (r messageResult, dropped bool) {
	kept, expired := batch.Partition(b.Items, func(e *messageEntry) bool { return e.Item.expired(now) })
	if len(expired) == 0 {
		return r, false
	}
	r = messageResult{Failed: expired, Err: ErrLeaseExpired}
	if len(kept) > 0 {
		rest := p.part(b, kept)
		rest.Work.uncut, rest.Work.attempts, rest.Work.failures = b.Work.uncut, b.Work.attempts, b.Work.failures
		r.Again = []*messageBatch{rest}
	}
	p.log.Add(slog.LevelInfo, "dropped messages whose source lease expired", "messages", len(expired))
	return r, true
}

// encode writes the batch's body and gives it a new Idempotency-Key. added says that the messages have the headers that Hooks.Send
// has added.
func (p *Publisher) encode(b *messageBatch, added bool) {
	size := wire.SendOverhead
	for i := range b.Items {
		size += b.Items[i].Size
	}
	p.noteFirstAttempt(b.Items)
	w := &b.Work
	w.body, w.quiet = bodies.Get(size), true
	body := wire.AppendSendHead(w.body.JSON)
	for i := range b.Items {
		m := &b.Items[i].Item
		w.quiet = w.quiet && m.quiet
		headers := m.Headers
		if w.headers = w.headers || len(headers) > 0; added && m.added != nil {
			headers = m.added
		}
		body = wire.AppendMessage(body, m.Key, m.Data, headers, b.Items[i].Size)
	}
	w.body.JSON = wire.AppendSendTail(body)
	w.idempotencyKey = uuid.NewString()
}
