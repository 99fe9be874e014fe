package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
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
	p.lines.add(slog.LevelError, "was refused and suspends sending", "error", err)
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
		p.lines.add(slog.LevelInfo, "is no longer refused and resumes sending")
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

// sendEmpty makes a send without messages, size bytes long.
func (p *Publisher) sendEmpty(ctx context.Context, size int) (took time.Duration, err error) {
	body := bodies.Get(size)
	body.JSON = wire.AppendEmptySend(body.JSON, size)
	began := time.Now()
	err = p.client.send(ctx, p.stream, body, sendOptions{repeat: once}, new(SendResult))
	if err != nil && classify(err).kind == kindInvalid {
		err = nil // a server that refuses to send nothing is well
	}
	if err != nil {
		p.counts.failed(err)
		return 0, err
	}
	bodies.Put(body)
	p.gotThrough()
	return time.Since(began), nil
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
		p.lines.add(slog.LevelWarn, "could not ask whether the stream takes repeated keys", "error", err)
	}
}

// trouble is what a Publisher knows of an outage: what its latest request failed with, if none has succeeded since.
type trouble struct {
	log   *lines
	cause atomic.Pointer[error]

	mu   sync.Mutex // guards all below
	told bool       // the log has the beginning of the trouble, and not its end
	next time.Time  // no beginning is told before
}

// tellTrouble is how often the log has the beginning of a trouble: where every other request fails, each success ends one.
const tellTrouble = time.Minute

// note records a failure without telling the log.
func (t *trouble) note(err error) { t.cause.Store(&err) }

// begin records a failure. The log has one line when trouble begins, and one when it ends, whichever lanes meet it.
func (t *trouble) begin(err error) {
	t.note(err)
	t.mu.Lock()
	now := time.Now()
	tell := !t.told && !now.Before(t.next)
	if tell {
		t.told, t.next = true, now.Add(tellTrouble)
	}
	t.mu.Unlock()
	if tell {
		t.log.add(slog.LevelWarn, "cannot send and tries again", "error", err)
	}
}

// end records that a request has succeeded.
func (t *trouble) end() {
	if t.cause.Load() == nil {
		return
	}
	t.cause.Store(nil)
	t.mu.Lock()
	tell := t.told
	t.told = false
	t.mu.Unlock()
	if tell {
		t.log.add(slog.LevelInfo, "sends again")
	}
}

// explain adds to an error that a call returns why the Publisher could not send.
func (t *trouble) explain(err error) error {
	cause := t.cause.Load()
	if err == nil || cause == nil {
		return err
	}
	return fmt.Errorf("%w; the latest request failed: %w", err, *cause)
}

// lines are what a Publisher tells the log. They leave on a goroutine of their own, which lives while there are any: a
// slog.Handler may send through this Publisher, and wait for room that only a lane can make.
type lines struct {
	logger *slog.Logger
	stream string

	mu     sync.Mutex // guards all below; not held while a line is written
	queue  []func()
	idle   chan struct{} // closed when the latest writeAll ends; nil if none runs
	next   time.Time     // no failed batch is told before
	untold int           // messages of failed batches that were not told
}

const (
	maxLines    = 64          // more than a Publisher tells while one line waits for a minute's outage to end
	tellFailure = time.Second // how often the log has a failed batch: thousands may fail one by one
)

// add tells the log something, in the background.
func (l *lines) add(level slog.Level, what string, args ...any) {
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	args = append([]any{"stream", l.stream}, args...)
	l.enqueue(func() { l.logger.Log(context.Background(), level, "sequin: publisher "+what, args...) })
}

func (l *lines) enqueue(write func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == maxLines {
		return
	}
	l.queue = append(l.queue, write)
	if l.idle == nil {
		l.idle = make(chan struct{})
		go l.writeAll(l.idle)
	}
}

// writeAll writes one line after the other until none is left. It decides to end under the lock that add takes.
func (l *lines) writeAll(idle chan struct{}) {
	defer close(idle)
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.idle = nil
			l.mu.Unlock()
			return
		}
		write := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		write()
	}
}

// await waits until all lines are written, or ctx ends.
func (l *lines) await(ctx context.Context) {
	l.mu.Lock()
	idle := l.idle
	l.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// failed tells that messages failed, at most once a second. The next line counts those of the meantime, too.
func (l *lines) failed(messages int, err error) {
	l.mu.Lock()
	now := time.Now()
	messages += l.untold
	tell := !now.Before(l.next)
	if l.untold = messages; tell {
		l.next, l.untold = now.Add(tellFailure), 0
	}
	l.mu.Unlock()
	if tell {
		l.add(slog.LevelError, "could not send messages", "messages", messages, "error", err)
	}
}
