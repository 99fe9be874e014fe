package sequin

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// backgroundJobs are the few requests that a Publisher makes besides sending: it checks whether a stream that refused it
// takes messages again, and it asks once whether the stream takes a key twice in a batch. stop ends them all.
type backgroundJobs struct {
	mu      sync.Mutex // guards all below; the caller of start and stop does not hold it
	stopped bool
	running sync.WaitGroup

	// The check of a stream that refused the Publisher.
	checking bool // a check is planned or running
	timer    *time.Timer
	checks   int // since a batch was sent and another refused

	// The question whether the stream takes a key twice.
	asking   bool      // it is being asked, or has been answered
	askAfter time.Time // not before: the last attempt to ask failed
}

// start runs job on a goroutine that stop waits for.
func (j *backgroundJobs) start(job func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.stopped {
		j.running.Go(job)
	}
}

// stop waits for the jobs. It is called after the engine's context has ended, so that they end soon.
func (j *backgroundJobs) stop() {
	j.mu.Lock()
	j.stopped = true
	if j.timer != nil {
		j.timer.Stop()
	}
	j.mu.Unlock()
	j.running.Wait()
}

// suspend stops sending after an answer that refuses the stream: it does not exist, or the token may not write to it. To
// send on would fail everything that is buffered, one batch after the other. What is buffered waits instead, and Send
// returns err, until a send without messages succeeds. There is one such check at a time, after a backoff.
func (p *Publisher) suspend(err error) {
	p.trouble.note(err)
	p.engine.Suspend(err)
	p.dropLeased(err)
	p.jobs.mu.Lock()
	defer p.jobs.mu.Unlock()
	if p.jobs.checking || p.jobs.stopped {
		return
	}
	p.jobs.checking = true
	// Where a check succeeds but every batch is refused, the backoff goes on: that must not cost a batch each 100 ms.
	if p.delivered.Swap(false) {
		p.jobs.checks = 0
	}
	p.log(slog.LevelError, "was refused and suspends sending", "error", err)
	p.planCheckLocked(err)
}

func (p *Publisher) planCheckLocked(err error) {
	wait := p.client.cfg.Retry.wait(p.jobs.checks, err)
	p.jobs.checks++
	p.jobs.timer = time.AfterFunc(wait, func() { p.jobs.start(p.check) })
}

// check resumes sending if the server takes a send without messages, and plans another check otherwise.
func (p *Publisher) check() {
	_, err := p.sendEmpty(p.engine.Context(), 0)
	if err != nil && p.cfg.RetryFor > 0 && p.engine.Context().Err() == nil {
		gone := p.exhausted(new(messageBatch))
		p.engine.Drop(func(o *outgoing) bool { return o.tried > 0 && gone(o) }, err)
	}
	p.jobs.mu.Lock()
	defer p.jobs.mu.Unlock()
	switch {
	case p.jobs.stopped:
	case err == nil:
		p.jobs.checking = false
		p.log(slog.LevelInfo, "is no longer refused and resumes sending")
		// Under the lock: a batch that leaves now and is refused plans its check after this one has ended.
		p.engine.Resume()
	default:
		if f := classify(err); f.subject == subjectAccess || f.unserved() {
			p.trouble.note(err)
			p.engine.Suspend(err) // it may be refused for another reason by now
		}
		p.planCheckLocked(err)
	}
}

// dropLeased fails the buffered messages that belong to a lease. Nothing is sent while the Publisher is suspended, and the
// holders of those leases would hear of it only long after their end.
func (p *Publisher) dropLeased(err error) {
	p.engine.Drop(func(o *outgoing) bool { return o.lease != nil }, err)
}

// learnDuplicateKeys asks once, in the background, whether the stream takes a key twice in a batch. It is called when a
// repeated key was passed over. Until the answer has come, and after a failed attempt to ask, no batch repeats a key.
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
	taken, err := p.client.acceptsDuplicateKeys(p.engine.Context(), p.stream)
	p.duplicateKeys.Store(taken)
	if err == nil {
		return
	}
	p.jobs.mu.Lock()
	defer p.jobs.mu.Unlock()
	p.jobs.asking, p.jobs.askAfter = false, time.Now().Add(p.client.cfg.Retry.MaxWait)
	if !errors.Is(err, context.Canceled) {
		p.log(slog.LevelWarn, "could not ask whether the stream takes repeated keys", "error", err)
	}
}
