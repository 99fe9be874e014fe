package sequin

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// sideJobs are the few things that a Publisher does beside sending: looking whether a stream that refused it is back,
// and asking once what the stream takes. stop ends them all.
type sideJobs struct {
	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup

	probing bool // a look is planned or running
	timer   *time.Timer
	looks   int    // since the last send that succeeded
	sent    uint64 // Publisher.successes at the last refusal
	asking  bool
	askAt   time.Time // not before: the last question failed
}

// start runs job on a goroutine that stop waits for.
func (s *sideJobs) start(job func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.running.Go(job)
	}
}

// stop is called when the batcher's context has ended, so that what is running ends soon.
func (s *sideJobs) stop() {
	s.mu.Lock()
	s.stopped = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// refused follows an answer that says: not this stream, not with this token, not here. Sending on would fail everything
// that is buffered, one batch after the other. So what is buffered waits and Send says why, until a look at the stream
// succeeds; there is one look at a time, at backoff pace.
func (p *Publisher) refused(err error) {
	p.engine.Suspend(err)
	p.dropLeased(err)
	p.side.mu.Lock()
	defer p.side.mu.Unlock()
	if !p.side.probing && !p.side.stopped {
		p.side.probing = true
		// A stream that can be looked at, and refuses what is sent, must not cost a batch every 100 ms.
		if now := p.successes.Load(); now > p.side.sent {
			p.side.looks, p.side.sent = 0, now
		}
		p.log(slog.LevelError, "was refused, and waits for the stream", "error", err)
		p.planProbeLocked(err)
	}
}

func (p *Publisher) planProbeLocked(err error) {
	wait := p.client.cfg.Retry.wait(p.side.looks, err)
	p.side.looks++
	p.side.timer = time.AfterFunc(wait, func() { p.side.start(p.probe) })
}

func (p *Publisher) probe() {
	_, err := callOnce[Stream](p.engine.Context(), p.client, path("api", "streams", p.stream))
	p.side.mu.Lock()
	defer p.side.mu.Unlock()
	switch {
	case p.side.stopped:
	case err == nil:
		p.side.probing = false
		p.log(slog.LevelInfo, "found the stream again")
		// Under side.mu: a batch that leaves now and is refused plans the next look after this one has ended.
		p.engine.Resume()
	default:
		p.planProbeLocked(err)
	}
}

// learnKind asks once, in the background, whether the stream takes a key twice in a batch. It is called when a batch
// had to pass a repeated key over. Until the answer is there, and after a failed question, batches go without repeats.
func (p *Publisher) learnKind() {
	p.side.mu.Lock()
	ask := !p.side.asking && !p.doubled.Load() && !time.Now().Before(p.side.askAt)
	p.side.asking = p.side.asking || ask
	p.side.mu.Unlock()
	if !ask {
		return
	}
	p.side.start(func() {
		taken, err := p.client.acceptsDuplicateKeys(p.engine.Context(), p.stream)
		p.doubled.Store(taken)
		p.side.mu.Lock()
		defer p.side.mu.Unlock()
		if err != nil {
			p.side.asking, p.side.askAt = false, time.Now().Add(p.client.cfg.Retry.MaxWait)
			if !errors.Is(err, context.Canceled) {
				p.log(slog.LevelWarn, "could not ask what the stream takes", "error", err)
			}
		}
	})
}
