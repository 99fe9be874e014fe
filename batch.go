package sequin

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/batch"
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
type completer interface{ complete(slot int, err error) }

// expired reports whether the message comes from a delivery whose lease is over, so that nobody needs it any more.
func (o *outgoing) expired(now time.Time) bool {
	return o.lease != nil && (lease.Past(now, o.lease.Deadline) || o.lease.Parent.Err() != nil)
}

// batchState is what the Publisher keeps of a batch between its attempts. An attempt is one request.
type batchState struct {
	body           *transport.Payload // encoded once: a retry sends the same bytes
	idempotencyKey string             // of these bytes
	attempts       int
	unexplained    int // unexplained 500s in a row
	// suspect is set once the batch is a single message that got an unexplained 500. sentBefore is what
	// Publisher.successes was then.
	suspect    bool
	sentBefore uint64
	half       half
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
	if w.body == nil {
		p.encode(b)
	}
	var result SendResult
	err := p.client.send(ctx, p.stream, w.body, w.idempotencyKey, once, &result)
	p.counts.attempt(len(w.body.JSON), err, w.attempts > 0)
	w.attempts++
	if err == nil {
		p.successes.Add(1)
		w.half.noteTaken()
		bodies.Put(w.body)
		return messageResult{Done: b.Items}
	}
	if ctx.Err() != nil {
		return messageResult{Again: []*messageBatch{b}}
	}
	return p.afterFailure(b, err)
}

// afterFailure returns what becomes of a batch whose attempt ended with err.
func (p *Publisher) afterFailure(b *messageBatch, err error) messageResult {
	kind := classify(err).kind
	if kind != kindUnexplained500 {
		b.Work.unexplained, b.Work.suspect = 0, false
	}
	switch single := len(b.Items) == 1; {
	case kind == kindInvalid && !single:
		return p.bisect(b)
	case kind == kindTooLarge && !single:
		return p.shrink(b)
	case kind == kindInvalid || kind == kindTooLarge:
		return p.fail(b, err)
	case kind.refusesStream():
		p.suspend(err)
		return p.fail(b, err)
	case p.cfg.RetryFor > 0 && p.exhausted(&b.Items[0]):
		return p.failExhausted(b, err)
	case kind == kindUnexplained500:
		return p.isolate(b, err)
	}
	return p.retry(b, err)
}

// refusesStream reports whether the server would answer the same to any messages for this stream.
func (k failureKind) refusesStream() bool {
	return k == kindUnauthorized || k == kindNotFound || k == kindRejected
}

// retry sends the same bytes again after a backoff.
func (p *Publisher) retry(b *messageBatch, err error) messageResult {
	wait := p.client.cfg.Retry.wait(b.Work.attempts-1, err)
	p.log(slog.LevelWarn, "retries a batch", "messages", len(b.Items), "attempts", b.Work.attempts, "wait", wait, "error", err)
	return messageResult{Again: []*messageBatch{b}, Wait: wait}
}

func (p *Publisher) fail(b *messageBatch, err error) messageResult {
	p.log(slog.LevelError, "could not send messages", "messages", len(b.Items), "error", err)
	return messageResult{Failed: b.Items, Err: err}
}

// bisect halves a batch that was refused as invalid, so that an invalid message fails alone. The left half is the smaller
// one: the longest way down, where each step costs two requests, is then the shortest.
func (p *Publisher) bisect(b *messageBatch) messageResult {
	left, right := b.Halve()
	left.Work.half, right.Work.half = newHalves()
	return messageResult{Again: []*messageBatch{left, right}}
}

// shrink limits all batches to half the size of one that was too large, and cuts that one anew.
func (p *Publisher) shrink(b *messageBatch) messageResult {
	size := int64(len(b.Work.body.JSON))
	for now := p.batchSize.Load(); size/2 < now && !p.batchSize.CompareAndSwap(now, size/2); now = p.batchSize.Load() {
	}
	p.log(slog.LevelWarn, "sends smaller batches from now on", "refused bytes", size, "limit", p.batchSize.Load())
	return messageResult{Requeue: b.Items}
}

// unexplainedBeforeSplit is how many unexplained 500s in a row a batch gets before it is split. With the default backoff
// that takes about 2.5 s. Restarts and deadlocks of a server take less; a message that it cannot store fails every time.
const unexplainedBeforeSplit = 5

// isolate looks for the one message that may be what an unexplained 500 is about. A server in trouble gives such a 500 for
// any batch, and the 2024 server gives it for a message that it cannot store.
//
// The batch is retried, and then halved until single messages are left. A single message fails only if another send has
// succeeded between two of its own failures, so that a server in trouble costs no message. A control batch is halved at
// once: it may hold another such message, and a smaller batch serves as well.
func (p *Publisher) isolate(b *messageBatch, err error) messageResult {
	w := &b.Work
	if w.unexplained++; w.unexplained < unexplainedBeforeSplit && !b.Control {
		return p.retry(b, err)
	}
	if len(b.Items) > 1 {
		left, right := b.Halve()
		left.Work.unexplained = min(w.unexplained, unexplainedBeforeSplit-1)
		right.Work.unexplained = left.Work.unexplained
		return messageResult{Again: []*messageBatch{left, right}, Wait: p.client.cfg.Retry.wait(0, err)}
	}
	// Read before the comparison: a send that succeeds while this line runs counts only the next time.
	sent := p.successes.Load()
	if w.suspect && sent > w.sentBefore && w.unexplained > unexplainedBeforeSplit {
		return p.fail(b, err)
	}
	if !w.suspect {
		w.suspect, w.sentBefore = true, sent
	}
	wait := p.client.cfg.Retry.wait(max(0, w.unexplained-unexplainedBeforeSplit), err)
	p.log(slog.LevelWarn, "retries a message that may make the server fail", "key", b.Items[0].Item.Key, "wait", wait, "error", err)
	return messageResult{Candidate: b, Wait: wait}
}

// exhausted reports whether a message has been tried for RetryFor. The first message of a batch has been tried longest,
// because a lane keeps its order. The exception is a message with a repeated key that was passed over: it may fail one
// attempt late.
func (p *Publisher) exhausted(e *messageEntry) bool {
	return time.Since(p.started)-e.Item.tried >= p.cfg.RetryFor
}

// failExhausted fails the messages of a batch that have been tried for RetryFor, and keeps the others.
func (p *Publisher) failExhausted(b *messageBatch, err error) messageResult {
	kept, exhausted := batch.Partition(b.Items, p.exhausted)
	p.log(slog.LevelError, "could not send messages in time", "messages", len(exhausted), "after", p.cfg.RetryFor, "error", err)
	return messageResult{Failed: exhausted, Err: err, Requeue: kept, Wait: p.client.cfg.Retry.wait(b.Work.attempts-1, err)}
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
		rest := &messageBatch{Items: kept, Work: b.Work}
		rest.Work.body = nil
		r.Again = []*messageBatch{rest}
	}
	p.log(slog.LevelInfo, "dropped messages whose source lease expired", "messages", len(expired))
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
