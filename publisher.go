package sequin

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/wire"
)

// PublisherConfig of NewPublisher. The zero value works. It is copied.
type PublisherConfig struct {
	// Lanes is how many requests may travel at once. A key always goes to the same lane, and a lane has one request in
	// flight, so that versions of a key do not overtake one another. 1 to 64, default 4.
	Lanes int
	// MaxBatch is the most messages in a request. 1 to 1,000, default 1,000.
	MaxBatch int
	// MaxBatchBytes is the most bytes of JSON in a request; a larger message travels alone. 1 KiB to 7,999,999, default
	// 1 MiB. Where a server, or a proxy before it, answers 413 to several messages, it shrinks to half of what was refused,
	// again if need be, and stays so for the life of the Publisher.
	MaxBatchBytes int
	// MaxBuffered is the most messages that the Publisher holds: waiting, in flight, or failed and not yet collected.
	// Send waits while it is reached. Default 20,000.
	MaxBuffered int
	// MaxBufferedBytes is the most bytes of JSON that these take. At least 8,000,000, default 64 MiB.
	MaxBufferedBytes int
	// Linger lets a batch that is not full wait for company. It never delays Flush, Close, SendSync, Receipt.Wait, or a
	// full buffer. Default 0: batches gather while others are in flight, which costs an idle Publisher nothing.
	Linger time.Duration
	// RetryFor is how long a message is tried when the server, or the way to it, is in trouble; then it fails with the
	// last error. It counts from the message's first attempt. Default 0: without end, the buffer fills and Send waits.
	RetryFor time.Duration
	// OnFailure is told of every failed message that has no Receipt, one at a time, each call on a goroutine of its own,
	// and when the message's room in the buffer is free. It may call Send, which returns ErrFailuresPending when only
	// further calls of OnFailure could make room for it; it must not call Flush or Close. A panic of it is recovered and
	// logged. Once Close's ctx has ended no further call begins, and one that runs is not waited for. Default: Flush and
	// Close return the failures.
	OnFailure func(MessageError)
}

// The bounds of PublisherConfig; see also maxLanes.
const (
	minBatchBytes    = 1 << 10
	defaultBuffered  = 20_000   // five full batches a lane: with half of it a fast producer waits for room twice as often, a tenth slower
	defaultBufferMem = 64 << 20 // room for MaxBuffered messages of 6 KB
)

func (c PublisherConfig) withDefaults() PublisherConfig {
	defaults := []struct {
		field *int
		value int
	}{{&c.Lanes, 4}, {&c.MaxBatch, MaxBatch}, {&c.MaxBatchBytes, 1 << 20}, {&c.MaxBuffered, defaultBuffered}, {&c.MaxBufferedBytes, defaultBufferMem}}
	for _, d := range defaults {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return c
}

func (c PublisherConfig) validate() error {
	const unbounded = int(^uint(0) >> 1)
	for _, limit := range []struct {
		name         string
		value        int
		least, most  int
		whyNotBeyond string
	}{
		{"Lanes", c.Lanes, 1, maxLanes, ""},
		{"MaxBatch", c.MaxBatch, 1, MaxBatch, " (the API's limit)"},
		{"MaxBatchBytes", c.MaxBatchBytes, minBatchBytes, MaxRequestBytes - 1, " (the server answers 413 beyond)"},
		{"MaxBuffered", c.MaxBuffered, 1, unbounded, ""},
		{"MaxBufferedBytes", c.MaxBufferedBytes, MaxRequestBytes, unbounded, ""}, // any single message must fit
	} {
		if limit.value < limit.least || limit.value > limit.most {
			return fmt.Errorf("%w: PublisherConfig.%s is %d, must be %d to %d%s", ErrInvalidConfig, limit.name, limit.value, limit.least, limit.most, limit.whyNotBeyond)
		}
	}
	if c.Linger < 0 || c.RetryFor < 0 {
		return fmt.Errorf("%w: PublisherConfig.Linger %v and RetryFor %v must not be negative", ErrInvalidConfig, c.Linger, c.RetryFor)
	}
	return nil
}

// Publisher buffers messages and sends them in batches, in the background. It is safe for concurrent use. Close it: what
// is buffered is lost with the process otherwise.
//
// Sends are at least once: see the package comment for what that means on which server. Every accepted message has one
// fate: sent, failed (reported once: to its Receipt, else to OnFailure, else by Flush or Close) or unsent (listed by Close).
type Publisher struct {
	client *Client
	stream string
	cfg    PublisherConfig
	seed   maphash.Seed

	engine    *batch.Engine[outgoing, sending]
	started   time.Time // what attempts are counted from
	receipts  receiptBook
	failures  failures
	side      sideJobs
	batchSize atomic.Int64  // MaxBatchBytes, or what 413s have shown to be the limit
	doubled   atomic.Bool   // whether a batch may hold a key twice; false until the stream has shown it
	successes atomic.Uint64 // batches that the server took
	counts    publisherCounts

	closing sync.Once
	outcome error
}

// NewPublisher returns a Publisher for the stream with that name or id. It makes no request and starts no goroutine;
// the first Send does both. The error is ErrInvalidConfig or ErrInvalidArgument.
func (c *Client) NewPublisher(stream string, cfg PublisherConfig) (*Publisher, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Publisher{client: c, stream: stream, cfg: cfg, seed: maphash.MakeSeed(), started: time.Now()}
	p.batchSize.Store(int64(cfg.MaxBatchBytes))
	p.engine = batch.New(batch.Config[outgoing, sending]{
		Lanes: cfg.Lanes, Slots: 1, Limits: p.limits, MaxItems: cfg.MaxBuffered, MaxBytes: cfg.MaxBufferedBytes,
		Linger: cfg.Linger, AsyncRelease: cfg.OnFailure != nil, Run: p.run, Done: p.done,
	})
	p.failures.engine, p.failures.report, p.failures.cut = p.engine, p.onFailure(), make(chan struct{})
	return p, nil
}

// onFailure is cfg.OnFailure, which may panic, or nil.
func (p *Publisher) onFailure() func(MessageError) {
	if p.cfg.OnFailure == nil {
		return nil
	}
	return func(e MessageError) {
		if panicked := callApart("OnFailure", func() { p.cfg.OnFailure(e) }); panicked != nil {
			p.log(slog.LevelError, "recovered a panic of OnFailure", errorAttrs(e.Message.Key, panicked)...)
		}
	}
}

// outgoing is a message on its way. Its strings are the caller's own, which nobody can change.
type outgoing struct {
	Message
	// tried is when its first attempt was, since Publisher.started. It is kept where RetryFor asks for it; 0 is never.
	tried time.Duration
	// to learns the message's fate, under the number slot; nil is nobody.
	to   completer
	slot int
	// lease is that of the delivery which the message comes from; nil is none. See admitFor.
	lease *lease.Lease
}

// completer is told once how each of its messages ended.
type completer interface{ complete(slot int, err error) }

func (p *Publisher) limits() batch.Limits {
	return batch.Limits{Count: p.cfg.MaxBatch, Bytes: int(p.batchSize.Load()), Overhead: wire.SendOverhead, Distinct: !p.doubled.Load()}
}

// Send accepts a message: it is buffered, and will be sent, reported as failed, or listed by Close. While the buffer is
// full it waits for room, first come first served; ctx bounds that wait and nothing else, but one that has ended already
// is refused before anything is looked at.
//
// Errors, none of which accepts the message: ctx's, ErrInvalidKey, ErrInvalidData, ErrTooLarge, ErrClosed, and
//   - an *APIError (say ErrNotFound for a mistyped stream) from a refusal of the stream until a look at it, at backoff
//     pace, succeeds;
//   - ErrFailuresPending when there is no room and nothing in the buffer can still be sent, so that waiting could last
//     for ever. Without an OnFailure that is when only failures which Flush has not collected are left. With one, Send
//     waits for its calls; except that a Send which came while one of them runs is refused as long as that one does:
//     it may come from there.
func (p *Publisher) Send(ctx context.Context, key, data string) error {
	return p.admit(ctx, Message{key, data}, true)
}

// TrySend is Send that never waits: ErrBufferFull where Send would.
func (p *Publisher) TrySend(key, data string) error {
	return p.admit(context.Background(), Message{key, data}, false)
}

// SendReceipt is Send with a Receipt that tells the message's fate.
func (p *Publisher) SendReceipt(ctx context.Context, m Message) (Receipt, error) {
	return p.admitReceipt(ctx, m, false)
}

// SendSync sends a message and returns when the server has it, or why it has not. It waits for no company and no other
// lane. When ctx ends first, the message may already be accepted, and will then be sent all the same.
func (p *Publisher) SendSync(ctx context.Context, m Message) error {
	r, err := p.admitReceipt(ctx, m, true)
	if err != nil {
		return err
	}
	return r.Wait(ctx)
}

func (p *Publisher) admitReceipt(ctx context.Context, m Message, hurry bool) (Receipt, error) {
	var e batch.Entry[outgoing]
	if err := p.prepare(ctx, m, &e); err != nil {
		return Receipt{}, err
	}
	r := p.receipts.next()
	r.publisher, r.lane = p, p.lane(e.ID)
	e.Item.to, e.Item.slot = r.block, r.slot
	if err := p.engine.Admit(ctx, &e, r.lane, hurry, true); err != nil {
		return Receipt{}, err
	}
	return r, nil
}

func (p *Publisher) admit(ctx context.Context, m Message, wait bool) error {
	var e batch.Entry[outgoing]
	if err := p.prepare(ctx, m, &e); err != nil {
		return err
	}
	return p.engine.Admit(ctx, &e, p.lane(e.ID), false, wait)
}

// prepare checks a message, so that nothing invalid can spoil a batch, and measures it.
func (p *Publisher) prepare(ctx context.Context, m Message, e *batch.Entry[outgoing]) (err error) {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	e.Item.Message = m
	e.ID = max(1, maphash.String(p.seed, m.Key)) // 0 would name nothing
	e.Size, err = checkMessage(m.Key, m.Data)
	return err
}

func (p *Publisher) lane(id uint64) int { return int(id % uint64(p.cfg.Lanes)) }

// done tells each message's fate to whoever is to know it.
func (p *Publisher) done(items []batch.Entry[outgoing], err error) {
	if err == nil {
		p.failures.sent(items)
	}
	for i := range items {
		if o := &items[i].Item; o.to != nil {
			o.to.complete(o.slot, err)
		}
	}
	if err != nil && err != ErrClosed { // what Close left is listed by it
		p.failures.add(items, err)
	}
}

// Flush waits until everything that was accepted before the call is sent or has failed, without waiting for company. It
// returns the failures that nobody else was told of as *UnsentError with Failed only, joined with ctx's error when ctx
// ended first: what is pending then stays accepted. Where a Close gave up while Flush waited, that error is ErrClosed. It
// does not wait for OnFailure.
func (p *Publisher) Flush(ctx context.Context) error {
	err := p.engine.Flush(ctx)
	failed := p.failures.collect()
	if len(failed) == 0 {
		return err
	}
	return join(&UnsentError{Failed: failed}, err)
}

// Close refuses further sends and sends what is pending, until ctx ends. It returns nil, or an *UnsentError with what
// failed and was not reported, and what was left: in order per key, ready to be sent by another Publisher. The last
// attempt at what was left may nevertheless have stored some of it. No request and no timer remains, and no goroutine but
// those of an OnFailure call that was running when ctx ended: it is not waited for, and no other call follows it.
//
// Close may be called beside Send, Flush and itself; the first ctx that ends counts, and every call returns the same value.
func (p *Publisher) Close(ctx context.Context) error {
	left, cause := p.engine.Close(ctx)
	p.side.stop()
	p.failures.await(ctx)
	p.closing.Do(func() {
		failed := p.failures.collect()
		if len(left) == 0 && len(failed) == 0 {
			return
		}
		unsent := &UnsentError{Failed: failed, Unsent: make([]Message, len(left)), cause: cause}
		for i, o := range left {
			unsent.Unsent[i] = o.Message
		}
		p.outcome = unsent
	})
	return p.outcome
}

// PublisherStats are totals since NewPublisher. At any moment Accepted = Sent + Failed + Buffered.
type PublisherStats struct {
	Accepted, Sent, Failed uint64
	// Buffered is how many messages wait or are in flight now; what Close left unsent stays. BufferedBytes is what they
	// take, together with failures that nobody has collected yet.
	Buffered, BufferedBytes int
	// Batches and Bytes count successful requests and the JSON in them. Retries counts the attempts that repeated a request;
	// a batch that was cut anew, or halved, makes new ones.
	Batches, Bytes, Retries uint64
	// Blocked is how long calls have waited for room, in sum.
	Blocked time.Duration
	// LastError is the last that an attempt ended with, nil when there was none. A success does not clear it.
	LastError error
	// Refusal is why nothing is sent now, and Send refuses what it gets: the answer that refused the stream (see
	// [Publisher.Send]). nil when there is none, and again once a look has found the stream.
	Refusal error
}

// Stats returns the totals so far. It may be called at any time.
func (p *Publisher) Stats() PublisherStats {
	s := p.counts.snapshot()
	e := p.engine.Stats()
	s.Accepted, s.Sent, s.Failed, s.Blocked = e.Admitted, e.Done, e.Failed, e.Blocked
	s.Buffered, s.BufferedBytes, s.Refusal = e.Live, e.Bytes, e.Suspended
	return s
}

// publisherCounts are the counts that runs make.
type publisherCounts struct {
	mu sync.Mutex
	s  PublisherStats
}

func (c *publisherCounts) snapshot() PublisherStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s
}

func (c *publisherCounts) attempt(bytes int, err error, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if again {
		c.s.Retries++
	}
	if err != nil {
		c.s.LastError = err
		return
	}
	c.s.Batches++
	c.s.Bytes += uint64(bytes)
}

func (p *Publisher) log(level slog.Level, what string, args ...any) {
	p.client.cfg.Logger.Log(context.Background(), level, "sequin: publisher "+what, append([]any{"stream", p.stream}, args...)...)
}
