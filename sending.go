package sequin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/jscan"
)

// sending is what the Publisher keeps of a batch while it is tried.
type sending struct {
	body    *payload // encoded once: a retry sends the same bytes
	key     string   // Idempotency-Key of these bytes
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
func (p *Publisher) run(ctx context.Context, b *batch[outgoing, sending]) verdict[outgoing, sending] {
	w := &b.work
	if b.skipped {
		p.learnKind()
	}
	if v, dropped := p.dropLapsed(b, time.Now()); dropped {
		return v
	}
	if w.isRight != nil && w.isRight.taken && len(b.items) > 1 {
		return p.bisect(b)
	}
	if w.body == nil {
		p.encode(b)
	}
	var result SendResult
	err := p.client.send(ctx, p.stream, w.body, w.key, once, &result)
	p.counts.attempt(len(w.body.json), err, w.tries > 0)
	w.tries++
	if err == nil {
		p.successes.Add(1)
		if w.isLeft != nil {
			w.isLeft.taken = true
		}
		bodies.put(w.body)
		return verdict[outgoing, sending]{done: b.items}
	}
	if ctx.Err() != nil {
		return verdict[outgoing, sending]{again: p.same(b)}
	}
	return p.judge(b, err)
}

// judge says what becomes of a batch whose attempt ended with err.
func (p *Publisher) judge(b *batch[outgoing, sending], err error) verdict[outgoing, sending] {
	w := &b.work
	var api *APIError
	status := 0
	if errors.As(err, &api) {
		status = api.Status
	}
	if !crashed(err) {
		w.crashes, w.alone = 0, false
	}
	switch {
	case status == http.StatusBadRequest || status == http.StatusUnprocessableEntity:
		if len(b.items) == 1 {
			return p.fail(b, err)
		}
		return p.bisect(b)
	case status == http.StatusRequestEntityTooLarge:
		return p.shrink(b, err)
	case !transient(err) && !errors.Is(err, ErrStreamFull) && status < 500 && status != 0:
		p.refused(err)
		return p.fail(b, err)
	case p.cfg.RetryFor > 0 && p.exhausted(&b.items[0]):
		return p.giveUp(b, err)
	case crashed(err):
		return p.suspect(b, err)
	}
	return p.later(b, err)
}

// exhausted reports whether a message has been tried for RetryFor. In a batch the first one has been tried longest: a
// lane keeps its order, also over halves and new cuts, unless a repeated key was passed over: then a later one may be
// given up an attempt late.
func (p *Publisher) exhausted(e *entry[outgoing]) bool {
	return time.Since(p.started)-e.item.tried >= p.cfg.RetryFor
}

// giveUp fails the messages of a batch that have been tried for RetryFor, and keeps the others.
func (p *Publisher) giveUp(b *batch[outgoing, sending], err error) verdict[outgoing, sending] {
	var over, rest []entry[outgoing]
	for i := range b.items {
		if p.exhausted(&b.items[i]) {
			over = append(over, b.items[i])
		} else {
			rest = append(rest, b.items[i])
		}
	}
	p.log(slog.LevelError, "gives messages up", "messages", len(over), "after", p.cfg.RetryFor, "error", err)
	return verdict[outgoing, sending]{failed: over, err: err, requeue: rest, wait: p.client.cfg.Retry.wait(b.work.tries-1, err)}
}

// later tries the same bytes again after a backoff.
func (p *Publisher) later(b *batch[outgoing, sending], err error) verdict[outgoing, sending] {
	wait := p.client.cfg.Retry.wait(b.work.tries-1, err)
	p.log(slog.LevelWarn, "tries a batch again", "messages", len(b.items), "tries", b.work.tries, "wait", wait, "error", err)
	return verdict[outgoing, sending]{again: p.same(b), wait: wait}
}

func (p *Publisher) same(b *batch[outgoing, sending]) []*batch[outgoing, sending] {
	return []*batch[outgoing, sending]{b}
}

func (p *Publisher) fail(b *batch[outgoing, sending], err error) verdict[outgoing, sending] {
	p.log(slog.LevelError, "gives messages up", "messages", len(b.items), "error", err)
	return verdict[outgoing, sending]{failed: b.items, err: err}
}

// bisect halves a batch that was refused as invalid, so that one bad message fails alone. The left half is the smaller
// one: the longest way down, where each step costs two requests, is then the shortest.
func (p *Publisher) bisect(b *batch[outgoing, sending]) verdict[outgoing, sending] {
	left, right := p.halve(b)
	h := new(half)
	left.work.isLeft, right.work.isRight = h, h
	return verdict[outgoing, sending]{again: []*batch[outgoing, sending]{left, right}}
}

// halve makes two batches of one, each to be encoded anew, under a key of its own.
func (p *Publisher) halve(b *batch[outgoing, sending]) (left, right *batch[outgoing, sending]) {
	n := len(b.items) / 2
	left = &batch[outgoing, sending]{items: b.items[:n:n]}
	right = &batch[outgoing, sending]{items: b.items[n:]}
	return left, right
}

// shrink follows a 413: from now on batches are cut to half of what was refused, this one first. A message that is
// refused alone fails.
func (p *Publisher) shrink(b *batch[outgoing, sending], err error) verdict[outgoing, sending] {
	if len(b.items) == 1 {
		return p.fail(b, err)
	}
	refused := int64(len(b.work.body.json))
	for now := p.batchSize.Load(); refused/2 < now && !p.batchSize.CompareAndSwap(now, refused/2); now = p.batchSize.Load() {
	}
	p.log(slog.LevelWarn, "cuts smaller batches from now on", "refused bytes", refused, "limit", p.batchSize.Load())
	return verdict[outgoing, sending]{requeue: b.items}
}

// suspect follows a bare 500, which is given by a server in trouble, and by the 2024 server for a message that it cannot
// store. The batch is tried again, then halved down to one message; that one fails only when, between two of its
// crashes, some other send succeeded: so that a server in trouble costs nobody a message. A witness is halved at once:
// it may hold another such message, and a smaller one is as good.
func (p *Publisher) suspect(b *batch[outgoing, sending], err error) verdict[outgoing, sending] {
	w := &b.work
	if w.crashes++; w.crashes < crashesBeforeSplit && !b.witness {
		return p.later(b, err)
	}
	if len(b.items) > 1 {
		left, right := p.halve(b)
		left.work.crashes = min(w.crashes, crashesBeforeSplit-1)
		right.work.crashes = left.work.crashes
		return verdict[outgoing, sending]{again: []*batch[outgoing, sending]{left, right}, wait: p.client.cfg.Retry.wait(0, err)}
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
	p.log(slog.LevelWarn, "suspects a message to crash the server", "key", b.items[0].item.Key, "wait", wait, "error", err)
	return verdict[outgoing, sending]{stuck: b, wait: wait}
}

// encode writes the batch's body, once, and draws its Idempotency-Key.
func (p *Publisher) encode(b *batch[outgoing, sending]) {
	size := sendOverhead
	for i := range b.items {
		size += b.items[i].size
	}
	p.noteFirstAttempt(b.items)
	w := &b.work
	w.body = bodies.get(size)
	body := appendSendHead(w.body.json)
	for i := range b.items {
		body = appendMessage(body, b.items[i].item.Message)
	}
	w.body.json = appendSendTail(body)
	w.key = uuid.NewString()
}

func (p *Publisher) noteFirstAttempt(items []entry[outgoing]) {
	if p.cfg.RetryFor == 0 {
		return
	}
	now := max(1, time.Since(p.started)) // 0 would be never
	for i := range items {
		if o := &items[i].item; o.tried == 0 {
			o.tried = now
		}
	}
}

// bodies holds payloads between batches. One that net/http may still be reading is left to the collector.
var bodies payloadPool

type payloadPool struct{ pool sync.Pool }

// get returns a payload with room for so many bytes of JSON.
func (pp *payloadPool) get(size int) *payload {
	size += jscan.Ahead
	b, _ := pp.pool.Get().(*payload)
	if b == nil || cap(b.json) < size {
		b = &payload{json: make([]byte, 0, size)}
	}
	b.json = b.json[:0]
	return b
}

func (pp *payloadPool) put(b *payload) {
	if b.released() && cap(b.json) <= maxPooled {
		pp.pool.Put(b)
	}
}
