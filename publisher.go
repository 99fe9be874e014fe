package sequin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/blame"
	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/linelog"
	"github.com/sequin-go/sequin/internal/outage"
	"github.com/sequin-go/sequin/internal/wire"
)

// Publisher buffers messages and sends them in batches, in the background. It is safe for concurrent use. Close it before
// the program ends: otherwise the buffered messages are lost.
//
// Delivery to the server is at least once; the package comment says what that means for each server. Every accepted
// message has one final result: it is sent, it fails, or Close lists it as unsent. A failure is reported once: to the
// message's Receipt, or else to OnFailure, or else by Flush or Close.
type Publisher struct {
	client *Client
	stream string
	cfg    PublisherConfig
	seed   maphash.Seed

	engine        *messageEngine
	started       time.Time // the time that outgoing.tried and through count from
	receipts      receiptBook
	failures      failures
	jobs          backgroundJobs
	sizes         flow.Sizes    // the batch size of each lane: MaxBatchBytes, or less after a 413 or a time-out
	link          *flow.Link    // what all lanes send at once
	tracker       blame.Tracker // results of recent sends, which show whether a message is at fault
	outage        outage.Outage
	log           linelog.Lines
	failedLines   linelog.Sum  // of messages that have failed
	duplicateKeys atomic.Bool  // a batch may hold a key twice; false until the stream is known to accept that
	delivered     atomic.Bool  // a batch was sent since the latest refusal of the stream
	reached       atomic.Bool  // the server has accepted a send, with or without messages
	through       atomic.Int64 // when it accepted the latest one, counted from started; set only if RetryFor is set
	counts        publisherCounts

	closing     sync.Once
	closeResult error // what each Close returns
}

// NewPublisher returns a Publisher for the stream with that name or id. It makes no request and starts no goroutine;
// the first Send does both. Its error is ErrInvalidConfig or ErrInvalidArgument.
func (c *Client) NewPublisher(stream string, cfg PublisherConfig) (*Publisher, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	most, laneItems := cfg.adapting()
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Publisher{client: c, stream: stream, cfg: cfg, seed: maphash.MakeSeed(), started: time.Now()}
	p.log.Log, p.log.Who, p.log.Attrs = c.log, "publisher", []any{"stream", stream}
	p.outage.Begun, p.outage.Over = p.unavailable, p.availableAgain
	p.receipts.outage = &p.outage
	p.link = flow.NewLink(minBatchBytes, cfg.MaxBufferedBytes)
	p.sizes.Smallest, p.sizes.Largest = minBatchBytes, cfg.MaxBatchBytes
	p.engine = batch.New(batch.Config[outgoing, batchState]{
		Lanes: cfg.Lanes, MaxLanes: most, MayGrow: p.mayGrow, Slots: 1, Limits: p.limits,
		MaxItems: cfg.MaxBuffered, MaxBytes: cfg.MaxBufferedBytes, LaneItems: laneItems,
		Linger: cfg.Linger, AsyncRelease: cfg.OnFailure != nil, Run: p.run, Done: p.done, Rest: p.receipts.free,
		InOrder: cfg.Lanes == 1, Part: partWork,
	})
	p.failures.engine, p.failures.report = p.engine, p.onFailure()
	return p, nil
}

// onFailure returns cfg.OnFailure with its panics recovered, or nil.
func (p *Publisher) onFailure() func(MessageError) {
	if p.cfg.OnFailure == nil {
		return nil
	}
	return func(e MessageError) {
		if panicked := callApart("OnFailure", func() { p.cfg.OnFailure(e) }); panicked != nil {
			p.log.Add(slog.LevelError, "recovered a panic of OnFailure", errorAttrs(e.Message.Key, panicked)...)
		}
	}
}

// Stream returns the name or id of the stream, as NewPublisher got it.
func (p *Publisher) Stream() string { return p.stream }

// Stats returns the totals so far. It may be called at any time.
func (p *Publisher) Stats() PublisherStats {
	s := p.counts.snapshot()
	e := p.engine.Stats()
	s.Accepted, s.Sent, s.Failed, s.Blocked = e.Admitted, e.Done, e.Failed, e.Blocked
	s.Buffered, s.BufferedBytes, s.Refusal = e.Live, e.Bytes, e.Suspended
	if !e.Oldest.IsZero() {
		s.OldestAge = time.Since(e.Oldest)
	}
	s.UnavailableSince = p.outage.Since()
	return s
}

// limits returns the current limits of a lane's batches.
func (p *Publisher) limits(lane int) batch.Limits {
	return batch.Limits{Count: p.cfg.MaxBatch, Bytes: p.sizes.Limit(lane), Overhead: wire.SendOverhead, Distinct: !p.duplicateKeys.Load()}
}

// mayGrow reports whether more lanes may be tried. Where less than everything gets through at once, more would not help. It is
// called with the engine's lock held, as limits is.
func (p *Publisher) mayGrow() bool {
	return !p.link.Limited() && !p.sizes.Limited()
}

// Send accepts a message with that key and data. It is short for SendMessage.
func (p *Publisher) Send(ctx context.Context, key, data string) error {
	return p.SendMessage(ctx, Message{Key: key, Data: data})
}

// SendMessage accepts a message into the buffer and returns. The message is then sent, reported as failed, or listed by
// Close. While the buffer is full, SendMessage waits for room, first come first served. ctx limits only that wait. If ctx
// has ended before the call, SendMessage returns its error at once.
//
// A message with headers fails with ErrUnsupported where the server does not announce headers. Before the first one is sent, the
// Publisher reads the stream to find out.
//
// An error means that the message was not accepted. It is ErrInvalidKey, ErrInvalidData, ErrInvalidHeaders, ErrTooLarge, or one of
// these:
//
//   - The error of ctx, or ErrClosed. In an outage it also wraps the error of the latest request that failed.
//   - An *APIError, for example ErrNotFound for a mistyped stream: the server has refused the stream. After each backoff
//     the Publisher makes a send without messages, and it accepts messages again when such a send succeeds. Until its first
//     success, an answer from something that does not serve the API has the same effect, because the URL may be wrong.
//   - ErrFailuresPending: there is no room, the buffer holds only failed messages, and a wait could last for ever. Without
//     OnFailure, call Flush to collect them. With OnFailure, SendMessage waits until it has been called for them.
//     Exception: a SendMessage that starts while OnFailure runs returns ErrFailuresPending instead of waiting, because
//     OnFailure itself may have called it.
func (p *Publisher) SendMessage(ctx context.Context, m Message) error {
	return p.admit(ctx, m, true)
}

// SendJSON sends v as JSON under that key. It returns the errors of [EncodeJSON] and of SendMessage.
func (p *Publisher) SendJSON(ctx context.Context, key string, v any) error {
	m, err := EncodeJSON(key, v)
	if err != nil {
		return err
	}
	return p.SendMessage(ctx, m)
}

// EncodeJSON returns a message with v as JSON. The error is [Permanent], because no retry can encode the same value. It
// does not check the key. The opposite is [DecodeJSON].
func EncodeJSON(key string, v any) (Message, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Message{}, Permanent(fmt.Errorf("sequin: encode %q from %T: %w", clip(key), v, err))
	}
	return Message{Key: key, Data: string(data)}, nil
}

// TrySend accepts a message with that key and data, and never waits. It is short for TrySendMessage.
func (p *Publisher) TrySend(key, data string) error {
	return p.TrySendMessage(Message{Key: key, Data: data})
}

// TrySendMessage is like SendMessage but never waits: it returns ErrBufferFull if there is no room.
func (p *Publisher) TrySendMessage(m Message) error {
	return p.admit(context.Background(), m, false)
}

// SendReceipt is like SendMessage and returns a Receipt, which reports the message's final result.
func (p *Publisher) SendReceipt(ctx context.Context, m Message) (Receipt, error) {
	return p.admitReceipt(ctx, m, false)
}

// SendSync sends a message and waits for its final result: nil when the server has accepted it, otherwise the error with
// which it failed. Its batch is sent at once, even if it is not full. If ctx ends first, SendSync returns ctx's error. The
// message may already be in the buffer then; if so, it is still sent.
func (p *Publisher) SendSync(ctx context.Context, m Message) error {
	r, err := p.admitReceipt(ctx, m, true)
	if err != nil {
		return err
	}
	return r.Wait(ctx)
}

// SendAllSync sends messages and waits for the final result of each. They are accepted together, as far as there is room, and their
// batches are sent at once, even if they are not full. Calls that run at the same time share requests.
//
// It returns nil when the server has accepted all messages, and otherwise an *UnsentError. Its Failed are the messages that
// failed or are invalid, without Superseded. When ctx ends, or the Publisher is closed or refuses messages, the error wraps that,
// and Unsent are the messages that were not accepted, and those whose result was not known. The latter are still sent, unless the
// Publisher was closed: then the server may have stored some of them in the last attempt.
func (p *Publisher) SendAllSync(ctx context.Context, messages []Message) error {
	var left UnsentError
	entries := make([]messageEntry, 0, len(messages))
	all := &together{outage: &p.outage, results: make([]result, len(messages)), over: make(chan struct{})}
	for _, m := range messages {
		var e messageEntry
		if err := p.prepare(ctx, m, &e); err != nil && ctx.Err() == nil {
			left.Failed = append(left.Failed, MessageError{Message: m, Err: err})
			continue
		} else if err != nil {
			e.Item.Message = m // which is not accepted
		}
		e.Item.to, e.Item.slot = all, int32(len(entries))
		entries = append(entries, e)
	}
	accepted, err := p.admitAll(ctx, entries)
	left.cause = err
	err = all.wait(ctx, accepted)
	if err == nil && accepted == len(messages) && all.succeeded() {
		return nil
	}
	for i := range entries {
		switch m, r := entries[i].Item.Message, all.of(i); {
		case i >= accepted:
			left.Unsent = append(left.Unsent, m)
		case !r.known, isAny(r.err, ErrClosed):
			left.cause, left.Unsent = cmp.Or(left.cause, r.err, err), append(left.Unsent, m)
		case r.err != nil:
			left.Failed = append(left.Failed, MessageError{Message: m, Err: r.err})
		}
	}
	if left.Failed == nil && left.Unsent == nil {
		return nil
	}
	return &left
}

func (p *Publisher) admit(ctx context.Context, m Message, wait bool) error {
	var e messageEntry
	if err := p.prepare(ctx, m, &e); err != nil {
		return err
	}
	return p.explainRefusal(p.engine.Admit(ctx, &e, p.engine.Lane(e.ID), false, wait))
}

// explainRefusal adds the cause of an outage to the error of an admission that found no room, or that a Close ended.
func (p *Publisher) explainRefusal(err error) error {
	if err == nil || err == ErrFailuresPending || classify(err).api != nil {
		return err
	}
	return explain(&p.outage, err)
}

func (p *Publisher) admitReceipt(ctx context.Context, m Message, urgent bool) (Receipt, error) {
	var e messageEntry
	if err := p.prepare(ctx, m, &e); err != nil {
		return Receipt{}, err
	}
	r := p.receipts.next()
	r.engine, r.lane = p.engine, p.engine.Lane(e.ID)
	e.Item.to, e.Item.slot = r.block, int32(r.slot)
	if err := p.engine.Admit(ctx, &e, r.lane, urgent, true); err != nil {
		return Receipt{}, p.explainRefusal(err)
	}
	return r, nil
}

// admitAll accepts entries in their order. It returns how many, and why not all.
func (p *Publisher) admitAll(ctx context.Context, entries []messageEntry) (accepted int, err error) {
	for accepted < len(entries) {
		if ctx.Err() != nil {
			return accepted, p.explainRefusal(contextError(ctx))
		}
		e := &entries[accepted]
		n, err := p.engine.AdmitSome(entries[accepted:], func(e *messageEntry) int { return p.engine.Lane(e.ID) })
		if n == 0 && err == nil { // no room
			n, err = 1, p.engine.Admit(ctx, e, p.engine.Lane(e.ID), true, true)
		}
		if err != nil {
			return accepted, p.explainRefusal(err)
		}
		accepted += n
	}
	return accepted, nil
}

// admitFor accepts a message that was made from a delivery with lease l. When the lease has ended the message fails with
// ErrLeaseExpired, if it has not been sent: it is made again from the next delivery. to gets its final result.
func (p *Publisher) admitFor(ctx context.Context, l *lease.Lease, m Message, to completer, wait bool) error {
	var e messageEntry
	if err := p.prepare(ctx, m, &e); err != nil {
		return err
	}
	e.Item.lease, e.Item.to = l, to
	return p.engine.Admit(ctx, &e, p.engine.Lane(e.ID), false, wait)
}

// prepare checks a message and fills in its entry. Invalid messages are refused here, because the server would refuse their
// whole batch.
func (p *Publisher) prepare(ctx context.Context, m Message, e *messageEntry) (err error) {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	e.Item.quiet = p.client.log.Calls()
	if e.Item.Message = m; len(m.Headers) > 0 {
		e.Item.Headers = maps.Clone(m.Headers) // the caller may change the map later
	}
	e.ID = max(1, maphash.String(p.seed, m.Key)) // 0 means that an entry has no ID
	e.Size, err = checkMessage(m.Key, m.Data, e.Item.Headers)
	if h := p.client.hooks; err == nil && h.sends() {
		e.Item.added, e.Size = h.addHeaders(ctx, p.stream, m, e.Size)
	}
	return err
}

// done reports the final result of messages. It is Config.Done of the engine.
func (p *Publisher) done(items []messageEntry, err error) {
	if err == nil {
		p.failures.supersede(items)
	}
	woke := false
	for i := range items {
		if o := &items[i].Item; o.to != nil && o.to.Complete(int(o.slot), err) {
			woke = true
		}
	}
	if err != nil && err != ErrClosed { // Close itself lists the messages that it left
		p.failures.add(items, err)
	}
	if woke {
		letSend()
	}
}

// letSend lets the callers that were woken send their next messages before the lane cuts its next batch. Otherwise that batch holds
// the messages of the other callers alone: callers of SendSync would share requests in two groups that take turns. 64 callers of one
// lane share requests of 29 messages without letSend, of 45 with one yield, and of 52 with two or more.
func letSend() {
	runtime.Gosched()
	runtime.Gosched()
}

// Flush sends all messages that were accepted before the call, without waiting for more, and waits until each is sent or
// has failed. It returns the failures that were not reported elsewhere as an *UnsentError with Failed only. If ctx ends
// first, Flush also returns ctx's error, and the pending messages are still sent. If the ctx of a Close ends meanwhile,
// Flush also returns ErrClosed. Flush does not wait for OnFailure.
func (p *Publisher) Flush(ctx context.Context) error {
	err := explain(&p.outage, p.engine.Flush(ctx))
	failed := p.failures.collect()
	if len(failed) == 0 {
		return err
	}
	if err == nil {
		return &UnsentError{Failed: failed}
	}
	return errors.Join(&UnsentError{Failed: failed}, err)
}

// Close refuses further messages and sends the pending ones until ctx ends. It returns nil, or an *UnsentError with the
// failures that were not reported elsewhere, the messages that were left, in order for each key, and ctx's error if Close
// gave up. Another Publisher can send the messages that were left. The last attempt may have stored some of them.
//
// No request, timer or goroutine remains. The exception is an OnFailure call that is running when ctx ends: Close does not
// wait for it, and no other call follows.
//
// Close may be called concurrently with all other methods and with itself. Whichever ctx ends first ends every call of
// Close, and all return the same value.
//
// PublisherConfig.CloseTimeout bounds Close like a ctx that ends after that time.
func (p *Publisher) Close(ctx context.Context) error {
	if p.cfg.CloseTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.cfg.CloseTimeout)
		defer cancel()
	}
	left, cause := p.engine.Close(ctx)
	p.jobs.stop()
	p.endStates()
	p.failures.await(ctx)
	p.client.hooks.await(ctx)
	p.client.log.Await(ctx)
	p.log.Await(ctx)
	p.closing.Do(func() {
		failed := p.failures.collect()
		if len(left) == 0 && len(failed) == 0 {
			return
		}
		unsent := &UnsentError{Failed: failed, Unsent: make([]Message, len(left)), cause: explain(&p.outage, cause)}
		for i, o := range left {
			unsent.Unsent[i] = o.Message
		}
		p.closeResult = unsent
	})
	return p.closeResult
}
