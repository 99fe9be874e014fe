package sequin

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// sending is what the Publisher keeps of a batch while it is tried.
type sending struct {
	body    *transport.Payload // encoded once: a retry sends the same bytes
	key     string             // Idempotency-Key of these bytes
	tries   int
	crashes int    // bare 500s in a row
	alone   bool   // it holds one message, and has crashed so
	seen    uint64 // Publisher.successes when it did
	// The halves of a refused batch share a half: the left one sets it, the right one reads it.
	isLeft, isRight *half
}

// half tells the right half of a refused batch that the left one was taken: then the bad message is in the right one,
// which need not be sent whole to be refused again.
type half struct{ taken bool }

// crashesBeforeSplit is how many bare 500s in a row a server may give, about 2.5 s with default backoff, before the
// batch itself is suspected: restarts and deadlocks take less, and a batch that crashes the server always will.
const crashesBeforeSplit = 5

// run makes one attempt at a batch and says what becomes of it.
func (p *Publisher) run(ctx context.Context, b *batch.Batch[outgoing, sending]) batch.Result[outgoing, sending] {
	w := &b.Work
	if b.Skipped {
		p.learnKind()
	}
	if v, dropped := p.dropLapsed(b, time.Now()); dropped {
		return v
	}
	if w.isRight != nil && w.isRight.taken && len(b.Items) > 1 {
		return p.bisect(b)
	}
	if w.body == nil {
		p.encode(b)
	}
	var result SendResult
	err := p.client.send(ctx, p.stream, w.body, w.key, once, &result)
	p.counts.attempt(len(w.body.JSON), err, w.tries > 0)
	w.tries++
	if err == nil {
		p.successes.Add(1)
		if w.isLeft != nil {
			w.isLeft.taken = true
		}
		bodies.Put(w.body)
		return batch.Result[outgoing, sending]{Done: b.Items}
	}
	if ctx.Err() != nil {
		return batch.Result[outgoing, sending]{Again: p.same(b)}
	}
	return p.judge(b, err)
}

// judge says what becomes of a batch whose attempt ended with err.
func (p *Publisher) judge(b *batch.Batch[outgoing, sending], err error) batch.Result[outgoing, sending] {
	w := &b.Work
	f := classify(err)
	if f.kind != kindUnexplained500 {
		w.crashes, w.alone = 0, false
	}
	switch f.kind {
	case kindInvalid:
		if len(b.Items) == 1 {
			return p.fail(b, err)
		}
		return p.bisect(b)
	case kindTooLarge:
		return p.shrink(b, err)
	case kindUnauthorized, kindNotFound, kindRejected:
		p.refused(err)
		return p.fail(b, err)
	}
	switch {
	case p.cfg.RetryFor > 0 && p.exhausted(&b.Items[0]):
		return p.giveUp(b, err)
	case f.kind == kindUnexplained500:
		return p.suspect(b, err)
	}
	return p.later(b, err)
}

// exhausted reports whether a message has been tried for RetryFor. In a batch the first one has been tried longest: a
// lane keeps its order, also over halves and new cuts, unless a repeated key was passed over: then a later one may be
// given up an attempt late.
func (p *Publisher) exhausted(e *batch.Entry[outgoing]) bool {
	return time.Since(p.started)-e.Item.tried >= p.cfg.RetryFor
}

// giveUp fails the messages of a batch that have been tried for RetryFor, and keeps the others.
func (p *Publisher) giveUp(b *batch.Batch[outgoing, sending], err error) batch.Result[outgoing, sending] {
	var over, rest []batch.Entry[outgoing]
	for i := range b.Items {
		if p.exhausted(&b.Items[i]) {
			over = append(over, b.Items[i])
		} else {
			rest = append(rest, b.Items[i])
		}
	}
	p.log(slog.LevelError, "gives messages up", "messages", len(over), "after", p.cfg.RetryFor, "error", err)
	return batch.Result[outgoing, sending]{Failed: over, Err: err, Requeue: rest, Wait: p.client.cfg.Retry.wait(b.Work.tries-1, err)}
}

// later tries the same bytes again after a backoff.
func (p *Publisher) later(b *batch.Batch[outgoing, sending], err error) batch.Result[outgoing, sending] {
	wait := p.client.cfg.Retry.wait(b.Work.tries-1, err)
	p.log(slog.LevelWarn, "tries a batch again", "messages", len(b.Items), "tries", b.Work.tries, "wait", wait, "error", err)
	return batch.Result[outgoing, sending]{Again: p.same(b), Wait: wait}
}

func (p *Publisher) same(b *batch.Batch[outgoing, sending]) []*batch.Batch[outgoing, sending] {
	return []*batch.Batch[outgoing, sending]{b}
}

func (p *Publisher) fail(b *batch.Batch[outgoing, sending], err error) batch.Result[outgoing, sending] {
	p.log(slog.LevelError, "gives messages up", "messages", len(b.Items), "error", err)
	return batch.Result[outgoing, sending]{Failed: b.Items, Err: err}
}

// bisect halves a batch that was refused as invalid, so that one bad message fails alone. The left half is the smaller
// one: the longest way down, where each step costs two requests, is then the shortest.
func (p *Publisher) bisect(b *batch.Batch[outgoing, sending]) batch.Result[outgoing, sending] {
	left, right := p.halve(b)
	h := new(half)
	left.Work.isLeft, right.Work.isRight = h, h
	return batch.Result[outgoing, sending]{Again: []*batch.Batch[outgoing, sending]{left, right}}
}

// halve makes two batches of one, each to be encoded anew, under a key of its own.
func (p *Publisher) halve(b *batch.Batch[outgoing, sending]) (left, right *batch.Batch[outgoing, sending]) {
	n := len(b.Items) / 2
	left = &batch.Batch[outgoing, sending]{Items: b.Items[:n:n]}
	right = &batch.Batch[outgoing, sending]{Items: b.Items[n:]}
	return left, right
}

// shrink follows a 413: from now on batches are cut to half of what was refused, this one first. A message that is
// refused alone fails.
func (p *Publisher) shrink(b *batch.Batch[outgoing, sending], err error) batch.Result[outgoing, sending] {
	if len(b.Items) == 1 {
		return p.fail(b, err)
	}
	refused := int64(len(b.Work.body.JSON))
	for now := p.batchSize.Load(); refused/2 < now && !p.batchSize.CompareAndSwap(now, refused/2); now = p.batchSize.Load() {
	}
	p.log(slog.LevelWarn, "cuts smaller batches from now on", "refused bytes", refused, "limit", p.batchSize.Load())
	return batch.Result[outgoing, sending]{Requeue: b.Items}
}

// suspect follows a bare 500, which is given by a server in trouble, and by the 2024 server for a message that it cannot
// store. The batch is tried again, then halved down to one message; that one fails only when, between two of its
// crashes, some other send succeeded: so that a server in trouble costs nobody a message. A witness is halved at once:
// it may hold another such message, and a smaller one is as good.
func (p *Publisher) suspect(b *batch.Batch[outgoing, sending], err error) batch.Result[outgoing, sending] {
	w := &b.Work
	if w.crashes++; w.crashes < crashesBeforeSplit && !b.Control {
		return p.later(b, err)
	}
	if len(b.Items) > 1 {
		left, right := p.halve(b)
		left.Work.crashes = min(w.crashes, crashesBeforeSplit-1)
		right.Work.crashes = left.Work.crashes
		return batch.Result[outgoing, sending]{Again: []*batch.Batch[outgoing, sending]{left, right}, Wait: p.client.cfg.Retry.wait(0, err)}
	}
	// Read before it is compared: a send that succeeds while this line runs counts for the next time only.
	now := p.successes.Load()
	if w.alone && now > w.seen && w.crashes > crashesBeforeSplit {
		return p.fail(b, err)
	}
	if !w.alone {
		w.alone, w.seen = true, now
	}
	wait := p.client.cfg.Retry.wait(max(0, w.crashes-crashesBeforeSplit), err)
	p.log(slog.LevelWarn, "suspects a message to crash the server", "key", b.Items[0].Item.Key, "wait", wait, "error", err)
	return batch.Result[outgoing, sending]{Candidate: b, Wait: wait}
}

// encode writes the batch's body, once, and draws its Idempotency-Key.
func (p *Publisher) encode(b *batch.Batch[outgoing, sending]) {
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
	w.key = uuid.NewString()
}

func (p *Publisher) noteFirstAttempt(items []batch.Entry[outgoing]) {
	if p.cfg.RetryFor == 0 {
		return
	}
	now := max(1, time.Since(p.started)) // 0 would be never
	for i := range items {
		if o := &items[i].Item; o.tried == 0 {
			o.tried = now
		}
	}
}
