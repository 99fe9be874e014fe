package sequin

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/blame"
	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// This file says what becomes of a batch of a Publisher's messages: it is sent, retried, split, or fails.

type (
	messageEngine = batch.Engine[outgoing, batchState]
	messageBatch  = batch.Batch[outgoing, batchState]
	messageResult = batch.Result[outgoing, batchState]
	messageEntry  = batch.Entry[outgoing]
)

// outgoing is a message in the Publisher's buffer. Its strings are the caller's own; a string cannot change.
type outgoing struct {
	Message
	// tried is the time of its first attempt, counted from Publisher.started; 0 means none. It is set only if RetryFor
	// is.
	tried time.Duration
	// to gets the final result of the message together with slot; nil means that nobody does.
	to   completer
	slot int
	// lease is that of the delivery which the message was made from; nil means none. See admitFor.
	lease *lease.Lease
}

// completer gets the final result of each of its messages, once.
type completer interface{ Complete(slot int, err error) }

// expired reports whether the message comes from a delivery whose lease is over, so that nobody needs it any more.
func (o *outgoing) expired(now time.Time) bool {
	return o.lease != nil && (lease.Past(now, o.lease.Deadline) || o.lease.Parent.Err() != nil)
}

// batchState is what the Publisher keeps of a batch between its attempts. An attempt is one request.
type batchState struct {
	body           *transport.Payload // encoded once: a retry sends the same bytes
	idempotencyKey string             // of these bytes
	partOf         []string           // keys of the sends that it is a part of and that may have been stored, nearest first
	attempts       int
	failures       int   // since the backoff began; it sets the wait
	mayBeStored    bool  // an attempt has ended without telling whether the server acted
	uncut          bool  // the rest of a batch that is sent in parts of the size that its lane sends now
	last           error // of the latest attempt
	half           half
	doubt          doubt
}

// half says which half of a batch that was refused as invalid another batch is. Once the server has taken the left half,
// an invalid message must be in the right one, which need not be sent whole to be refused again. The zero half is none.
type half struct {
	left      bool
	leftTaken *bool // shared by both halves, which one lane sends one after the other
}

func newHalves() (left, right half) {
	taken := new(bool)
	return half{left: true, leftTaken: taken}, half{leftTaken: taken}
}

// noteTaken records that the server took the half.
func (h half) noteTaken() {
	if h.left {
		*h.leftTaken = true
	}
}

// surelyInvalid reports whether the half is known to hold an invalid message.
func (h half) surelyInvalid() bool { return h.leftTaken != nil && !h.left && *h.leftTaken }

// run makes one attempt at a batch and returns what becomes of it.
func (p *Publisher) run(ctx context.Context, b *messageBatch) messageResult {
	w := &b.Work
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
		p.encode(b)
	}
	if w.doubt.needsControl(b) {
		if r, decided := p.judge(ctx, b); decided {
			return r
		}
	}
	return p.attempt(ctx, b)
}

// attempt sends a batch once.
func (p *Publisher) attempt(ctx context.Context, b *messageBatch) messageResult {
	w := &b.Work
	bytes := len(w.body.JSON)
	options := sendOptions{idempotencyKey: w.idempotencyKey, partOf: w.partOf, repeat: once}
	if b.Candidate {
		options.timeout = p.tracker.Timeout(bytes, p.timeout())
	}
	var others blame.Case // whether others of about that size get through meanwhile
	p.tracker.Refused(&others, bytes/2)
	var result SendResult
	began := time.Now()
	err := p.client.send(ctx, p.stream, w.body, options, &result)
	took := time.Since(began)
	p.counts.attempt(bytes, err, w.attempts > 0)
	w.attempts++
	if err == nil {
		p.sent(b, bytes, took)
		return messageResult{Done: b.Items}
	}
	if ctx.Err() != nil {
		return messageResult{Again: []*messageBatch{b}}
	}
	return p.afterFailure(b, err, p.tracker.Controlled(&others))
}

// sent notes that the server took a batch.
func (p *Publisher) sent(b *messageBatch, bytes int, took time.Duration) {
	if !b.Candidate { // candidates are no controls: their failures do not count as those of controls, either
		p.tracker.Succeeded(len(b.Items), bytes, took)
		p.size(b).Succeeded(bytes, took, p.timeout(), time.Now())
	}
	if !p.delivered.Load() {
		p.delivered.Store(true)
	}
	p.gotThrough()
	b.Work.half.noteTaken()
	bodies.Put(b.Work.body)
}

// afterFailure returns what becomes of a batch whose attempt ended with err. othersPassed says that another send of about
// its size succeeded meanwhile.
func (p *Publisher) afterFailure(b *messageBatch, err error, othersPassed bool) messageResult {
	w, f, single := &b.Work, classify(err), len(b.Items) == 1
	w.last = err
	w.mayBeStored = w.mayBeStored || f.mayHaveActed
	switch {
	case f.subject == subjectRequest && single:
		return p.fail(b, err)
	case f.kind == kindInvalid:
		return p.bisect(b)
	case f.kind == kindTooLarge:
		return p.shrink(b, 0)
	case f.subject == subjectAccess:
		p.suspend(err)
		return p.fail(b, err)
	case f.unserved() && !p.reached.Load():
		p.suspend(err) // nothing shows that the URL is right, so that the messages wait
		return messageResult{Again: []*messageBatch{b}}
	}
	p.trouble.begin(err)
	switch {
	case p.cfg.RetryFor > 0 && p.exhausted(b)(&b.Items[0].Item):
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

// backoff returns the wait after the latest of a batch's failures in a row.
func (p *Publisher) backoff(b *messageBatch, err error) time.Duration {
	b.Work.failures++
	return p.client.cfg.Retry.wait(b.Work.failures-1, err)
}

func (p *Publisher) fail(b *messageBatch, err error) messageResult {
	p.lines.failed(len(b.Items), err)
	return messageResult{Failed: b.Items, Err: err}
}

// part returns a batch of some of b's items, which is another request.
func (p *Publisher) part(b *messageBatch, items []messageEntry) *messageBatch {
	return &messageBatch{Items: items, Work: partWork(b)}
}

// maxPartOf bounds how many sends a part names. A batch of 1,000 messages is halved ten times at most; what was cut more
// often than twice as often was cut over a long time, in which a server forgets.
const maxPartOf = 20

// partWork returns what a part of b inherits. A part of a send that may have been stored names that send, so that a server
// that knows the header does not store it again.
func partWork(b *messageBatch) batchState {
	partOf := b.Work.partOf
	if b.Work.mayBeStored {
		partOf = append([]string{b.Work.idempotencyKey}, partOf[:min(len(partOf), maxPartOf-1)]...)
	}
	return batchState{partOf: partOf}
}

// halve returns both halves of a batch.
func (p *Publisher) halve(b *messageBatch) (left, right *messageBatch) {
	left, right = b.Halve()
	left.Work, right.Work = partWork(b), partWork(b)
	return left, right
}

// bisect halves a batch that was refused as invalid, so that an invalid message fails alone. The left half is the smaller
// one: the longest way down, where each step costs two requests, is then the shortest.
func (p *Publisher) bisect(b *messageBatch) messageResult {
	left, right := p.halve(b)
	left.Work.half, right.Work.half = newHalves()
	return messageResult{Again: []*messageBatch{left, right}}
}

// shrink halves what the lane sends, and cuts a batch that was too large anew.
func (p *Publisher) shrink(b *messageBatch, wait time.Duration) messageResult {
	if b.Candidate {
		left, right := p.halve(b)
		return messageResult{Again: []*messageBatch{left, right}, Wait: wait}
	}
	if p.size(b).Failed(len(b.Work.body.JSON), time.Now()); len(b.Work.body.JSON) > p.size(b).Limit() {
		return p.cutAnew(b, wait)
	}
	left, right := p.halve(b)
	left.Work.failures = b.Work.failures
	return messageResult{Again: []*messageBatch{left, right}, Wait: wait}
}

// cutAnew sends a batch in parts of the size that its lane sends now.
func (p *Publisher) cutAnew(b *messageBatch, wait time.Duration) messageResult {
	rest := p.part(b, b.Items)
	rest.Work.uncut, rest.Work.failures = true, b.Work.failures
	return messageResult{Again: []*messageBatch{rest}, Wait: wait}
}

// cutToSize cuts the first part off a batch that is larger than what its lane sends now. The rest waits until the part is
// sent, because the size may have changed by then.
func (p *Publisher) cutToSize(b *messageBatch) (r messageResult, cut bool) {
	size, limit, n := wire.SendOverhead, p.size(b).Limit(), 0
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

// size returns the size of the lane that a batch belongs to.
func (p *Publisher) size(b *messageBatch) *flow.Size { return p.sizes[p.lane(b.Items[0].ID)] }

// timeout returns how long an attempt may take.
func (p *Publisher) timeout() time.Duration { return p.client.attemptTimeout(request{}) }

// gotThrough notes that the server took a send, if only an empty one.
func (p *Publisher) gotThrough() {
	p.reached.Store(true)
	if p.cfg.RetryFor > 0 {
		p.through.Store(int64(time.Since(p.started)))
	}
	p.trouble.end()
}

// exhausted returns a function that reports whether a message of b has been tried for RetryFor. Only time in which nothing
// of the Publisher got through counts, except for a message that is suspected alone. The first message of a batch has been
// tried longest, because a lane keeps its order. The exception is a message with a repeated key that was passed over: it may
// fail one attempt late.
func (p *Publisher) exhausted(b *messageBatch) func(*outgoing) bool {
	since := time.Duration(p.through.Load())
	if b.Candidate && len(b.Items) == 1 {
		since = b.Work.doubt.aloneSince
	}
	now := time.Since(p.started)
	return func(o *outgoing) bool { return now-max(o.tried, since) >= p.cfg.RetryFor }
}

// failExhausted fails the messages of a batch that have been tried for RetryFor, and keeps the others.
func (p *Publisher) failExhausted(b *messageBatch, err error) messageResult {
	gone := p.exhausted(b)
	kept, exhausted := batch.Partition(b.Items, func(e *messageEntry) bool { return gone(&e.Item) })
	p.lines.failed(len(exhausted), err)
	r := messageResult{Failed: exhausted, Err: err, Wait: p.backoff(b, err)}
	if len(kept) > 0 {
		rest := p.part(b, kept)
		rest.Work.failures = b.Work.failures
		r.Again = []*messageBatch{rest}
	}
	return r
}

// dropExpired fails the messages that expired before they were sent. What remains is another request, with a body and an
// Idempotency-Key of its own. dropped is false when nothing has expired.
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
	p.lines.add(slog.LevelInfo, "dropped messages whose source lease expired", "messages", len(expired))
	return r, true
}

// encode writes the batch's body and draws its Idempotency-Key.
func (p *Publisher) encode(b *messageBatch) {
	size := wire.SendOverhead
	for i := range b.Items {
		size += b.Items[i].Size
	}
	p.noteFirstAttempt(b.Items)
	w := &b.Work
	w.body = bodies.Get(size)
	body := wire.AppendSendHead(w.body.JSON)
	for i := range b.Items {
		body = wire.AppendMessage(body, b.Items[i].Item.Key, b.Items[i].Item.Data)
	}
	w.body.JSON = wire.AppendSendTail(body)
	w.idempotencyKey = uuid.NewString()
}

func (p *Publisher) noteFirstAttempt(items []messageEntry) {
	if p.cfg.RetryFor == 0 {
		return
	}
	now := max(1, time.Since(p.started)) // 0 would mean none
	for i := range items {
		if o := &items[i].Item; o.tried == 0 {
			o.tried = now
		}
	}
}
