package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/outage"
	"github.com/sequin-go/sequin/internal/wire"
)

// backgroundJobs are requests that a Publisher makes in the background: sends without messages, to find out whether a stream
// that refused it accepts messages again, and a read of the stream, to find out whether it accepts a key twice in a batch.
type backgroundJobs struct {
	mu      sync.Mutex // guards all below; the caller of start and stop does not hold it
	stopped bool
	running sync.WaitGroup

	// The check of a stream that refused the Publisher.
	checking bool // a check is planned or running
	timer    *time.Timer
	checks   int       // in a row; 0 again when a refusal follows a batch that was sent
	since    time.Time // when the Publisher was suspended

	// The read that shows whether the stream accepts a key twice.
	asking   bool      // it runs, or has succeeded
	askAfter time.Time // after a failed read, when the next one may begin
}

// start runs job on a goroutine that stop waits for.
func (j *backgroundJobs) start(job func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.stopped {
		j.running.Go(job)
	}
}

// stop prevents further jobs and waits for those that run. It is called after the engine's context has ended, which ends
// them soon.
func (j *backgroundJobs) stop() {
	j.mu.Lock()
	j.stopped = true
	if j.timer != nil {
		j.timer.Stop()
	}
	j.mu.Unlock()
	j.running.Wait()
}

// endStates reports the end of the Publisher's states, which has been closed.
func (p *Publisher) endStates() {
	p.jobs.mu.Lock()
	if p.jobs.checking {
		p.jobs.checking = false
		p.changed(StateInfo{State: StateSuspended, Over: true, For: time.Since(p.jobs.since)})
	}
	p.jobs.mu.Unlock()
	if lasted, told := p.outage.Unended(); told {
		p.changed(StateInfo{State: StateUnavailable, Over: true, For: lasted})
	}
}

// suspend stops sending after an answer that refuses the stream: it does not exist, or the token may not write to it. If the
// Publisher continued, each buffered batch would fail. Instead the buffered messages wait, and Send returns err, until a
// send without messages succeeds. One such check is made at a time, after a backoff.
func (p *Publisher) suspend(err error) {
	p.outage.Note(err)
	p.engine.Suspend(err)
	p.dropLeased(err)
	p.jobs.mu.Lock()
	defer p.jobs.mu.Unlock()
	if p.jobs.checking || p.jobs.stopped {
		return
	}
	p.jobs.checking = true
	// If checks succeed but every batch is refused, the backoff continues to grow. Otherwise a batch would fail every
	// 100 ms.
	if p.delivered.Swap(false) {
		p.jobs.checks = 0
	}
	p.jobs.since = time.Now()
	p.log.Add(slog.LevelError, "was refused and suspends sending until a test succeeds: check that the stream exists and the token may send to it", "error", err)
	p.changed(StateInfo{State: StateSuspended, Err: err})
	p.planCheckLocked(err)
}

// planCheckLocked starts the timer of the next check. err is the error of the latest request.
func (p *Publisher) planCheckLocked(err error) {
	wait := p.client.cfg.Retry.wait(p.jobs.checks, err)
	p.jobs.checks++
	p.jobs.timer = time.AfterFunc(wait, func() { p.jobs.start(p.check) })
}

// check makes a send without messages. If it succeeds, check resumes sending; otherwise it plans another check.
func (p *Publisher) check() {
	_, err := p.sendEmpty(p.engine.Context(), 0, 0)
	if err != nil && p.cfg.RetryFor > 0 && p.engine.Context().Err() == nil {
		isExhausted := p.exhausted(new(messageBatch))
		p.engine.Drop(func(o *outgoing) bool { return o.tried > 0 && isExhausted(o) }, err)
	}
	p.jobs.mu.Lock()
	defer p.jobs.mu.Unlock()
	switch {
	case p.jobs.stopped:
	case err == nil:
		p.jobs.checking = false
		lasted := time.Since(p.jobs.since)
		p.log.Add(slog.LevelInfo, "is no longer refused and resumes sending", "for", lasted, "messages", p.waiting())
		p.changed(StateInfo{State: StateSuspended, Over: true, For: lasted})
		// The lock is held: if a batch that is sent now is refused, its suspend waits until this check has ended.
		p.engine.Resume()
	default:
		if f := classify(err); f.subject == subjectAccess || f.unserved() {
			p.outage.Note(err)
			p.engine.Suspend(err) // the reason may have changed
		}
		p.planCheckLocked(err)
	}
}

// sendEmpty makes a send without messages, whose body has size bytes. timeout limits it; 0 means Config.Timeout. It returns how
// long the send took.
func (p *Publisher) sendEmpty(ctx context.Context, size int, timeout time.Duration) (took time.Duration, err error) {
	body := bodies.Get(size)
	body.JSON = wire.AppendEmptySend(body.JSON, size)
	if _, err := p.link.Begin(ctx, size); err != nil {
		return 0, err
	}
	began := time.Now()
	err = p.client.send(ctx, p.stream, body, sendOptions{timeout: timeout, retry: neverRetry}, new(SendResult))
	p.link.End(size)
	if err != nil && classify(err).kind == kindInvalid {
		err = nil // the server works: it only refuses an empty list of messages
	}
	if err != nil {
		p.counts.failed(err)
		return 0, err
	}
	bodies.Put(body)
	p.gotThrough()
	return time.Since(began), nil
}

// dropLeased fails the buffered messages that were made from deliveries. They cannot be sent while the Publisher is
// suspended, and without dropLeased their deliveries would be settled only when the Publisher resumes.
func (p *Publisher) dropLeased(err error) {
	p.engine.Drop(func(o *outgoing) bool { return o.lease != nil }, err)
}

// learnDuplicateKeys finds out, in the background, whether the stream accepts a key twice in a batch. It is called when a
// message was passed over because of its repeated key. Until the answer is known, no batch repeats a key.
func (p *Publisher) learnDuplicateKeys() {
	p.jobs.mu.Lock()
	ask := !p.jobs.asking && !p.duplicateKeys.Load() && !time.Now().Before(p.jobs.askAfter)
	p.jobs.asking = p.jobs.asking || ask
	p.jobs.mu.Unlock()
	if ask {
		p.jobs.start(p.askDuplicateKeys)
	}
}

func (p *Publisher) askDuplicateKeys() {
	accepted, err := p.client.acceptsDuplicateKeys(p.engine.Context(), p.stream)
	p.duplicateKeys.Store(accepted)
	if err == nil {
		return
	}
	p.jobs.mu.Lock()
	defer p.jobs.mu.Unlock()
	p.jobs.asking, p.jobs.askAfter = false, time.Now().Add(p.client.cfg.Retry.MaxWait)
	if !errors.Is(err, context.Canceled) {
		p.log.Add(slog.LevelWarn, "could not find out whether the stream accepts repeated keys", "error", err)
	}
}

// refuseHeaders fails the messages with headers of a batch if the server does not announce headers. Until it has, the stream is
// read first; a read that fails is a failed attempt. refused is false if the batch may be sent.
func (p *Publisher) refuseHeaders(ctx context.Context, b *messageBatch) (r messageResult, refused bool) {
	if p.client.extensions().Has(wire.Headers) {
		return r, false
	}
	_, err := callOnce[seenStream](ctx, p.client, path("api", "streams", p.stream))
	switch {
	case p.client.extensions().Has(wire.Headers):
		return r, false
	case ctx.Err() != nil:
		return messageResult{Again: []*messageBatch{b}}, true
	case err != nil:
		return p.afterFailedRead(b, err), true
	}
	r.Err = unsupported(wire.Headers)
	others, failed := p.splitHeaders(b, r.Err)
	if r.Failed = failed; len(others) > 0 {
		rest := p.part(b, others)
		rest.Work.attempts, rest.Work.failures = b.Work.attempts, b.Work.failures
		r.Again = []*messageBatch{rest}
	}
	return r, true
}

// splitHeaders returns the messages of a batch without and with headers, and logs that the latter fail.
func (p *Publisher) splitHeaders(b *messageBatch, err error) (others, failed []messageEntry) {
	others, failed = batch.Partition(b.Items, func(e *messageEntry) bool { return len(e.Item.Headers) > 0 })
	p.logFailed(failed, err)
	return others, failed
}

// afterFailedRead returns the result for a batch when the read of its stream has failed. The messages are not at fault.
func (p *Publisher) afterFailedRead(b *messageBatch, err error) messageResult {
	p.counts.failed(err)
	switch f := classify(err); {
	case f.subject == subjectAccess:
		p.suspend(err)
		return p.fail(b, err)
	case f.unserved() && !p.reached.Load():
		p.suspend(err)
		return messageResult{Again: []*messageBatch{b}}
	}
	p.outage.Failed(err)
	if p.cfg.RetryFor > 0 && p.exhausted(b)(&b.Items[0].Item) {
		return p.failExhausted(b, err)
	}
	return p.retry(b, err)
}

// gotThrough records that the server accepted a send, with or without messages.
func (p *Publisher) gotThrough() {
	p.reached.Store(true)
	if p.cfg.RetryFor > 0 {
		p.through.Store(int64(time.Since(p.started)))
	}
	p.outage.Succeeded()
}

// exhausted returns a function that reports whether a message of b has been tried for RetryFor. Time counts only since the
// Publisher's latest successful send. For a candidate of one message it counts since the first attempt at that candidate.
//
// Callers check the first message of a batch, which has been tried longest because a lane keeps its order. A message that
// was passed over because its key was repeated may have been tried for longer; it may then fail one attempt late.
func (p *Publisher) exhausted(b *messageBatch) func(*outgoing) bool {
	since := time.Duration(p.through.Load())
	if b.Candidate && len(b.Items) == 1 {
		since = b.Work.aloneSince()
	}
	now := time.Since(p.started)
	return func(o *outgoing) bool { return now-max(o.tried, since) >= p.cfg.RetryFor }
}

// failExhausted fails the messages of a batch that have been tried for RetryFor, and retries the others.
func (p *Publisher) failExhausted(b *messageBatch, err error) messageResult {
	isExhausted := p.exhausted(b)
	kept, exhausted := batch.Partition(b.Items, func(e *messageEntry) bool { return isExhausted(&e.Item) })
	p.logFailed(exhausted, err)
	r := messageResult{Failed: exhausted, Err: err, Wait: p.backoff(b, err)}
	if len(kept) > 0 {
		rest := p.part(b, kept)
		rest.Work.failures = b.Work.failures
		r.Again = []*messageBatch{rest}
	}
	return r
}

// noteFirstAttempt records the time of the first attempt at each item, if RetryFor is set.
func (p *Publisher) noteFirstAttempt(items []messageEntry) {
	if p.cfg.RetryFor == 0 {
		return
	}
	now := max(1, time.Since(p.started)) // 0 means that there was no attempt
	for i := range items {
		if o := &items[i].Item; o.tried == 0 {
			o.tried = now
		}
	}
}

// waiting returns how many messages have no final result.
func (p *Publisher) waiting() int { return p.engine.Stats().Live }

// changed reports a change of the Publisher's state to Hooks.
func (p *Publisher) changed(s StateInfo) {
	if p.client.hooks != nil {
		s.Stream, s.Messages = p.stream, p.waiting()
		p.client.hooks.changed(s)
	}
}

// unavailable tells that requests fail which are not the fault of their messages.
func (p *Publisher) unavailable(err error) {
	p.log.Add(slog.LevelWarn, "cannot send and retries", "error", err, "messages", p.waiting())
	p.changed(StateInfo{State: StateUnavailable, Err: err})
}

func (p *Publisher) availableAgain(lasted time.Duration, _ int) {
	p.log.Add(slog.LevelInfo, "sends again", "for", lasted, "messages", p.waiting())
	p.changed(StateInfo{State: StateUnavailable, Over: true, For: lasted})
}

// logFailed logs that messages have failed, at most once a second. The next line includes the messages that were not logged. Those
// from Config.Logger do not count: a line about a line that could not be sent would fail as well, and so on.
func (p *Publisher) logFailed(items []messageEntry, err error) {
	messages := 0
	for i := range items {
		if !items[i].Item.quiet {
			messages++
		}
	}
	if messages == 0 {
		return
	}
	if total := p.failedLines.Add(messages); total > 0 {
		p.log.Add(slog.LevelError, "could not send messages", "messages", total, "error", err)
	}
}

// explain adds the cause of an outage, if there is one, to an error that a call returns.
func explain(o *outage.Outage, err error) error {
	cause := o.Cause()
	if err == nil || cause == nil {
		return err
	}
	return fmt.Errorf("%w; the latest request failed: %w", err, cause)
}
