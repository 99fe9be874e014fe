package sequin

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// trouble is what a Publisher knows of an outage: what its latest request failed with, if none has succeeded since.
type trouble struct {
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
func (t *trouble) begin(p *Publisher, err error) {
	t.note(err)
	t.mu.Lock()
	now := time.Now()
	tell := !t.told && !now.Before(t.next)
	if tell {
		t.told, t.next = true, now.Add(tellTrouble)
	}
	t.mu.Unlock()
	if tell {
		p.log(slog.LevelWarn, "cannot send and tries again", "error", err)
	}
}

// end records that a request has succeeded.
func (t *trouble) end(p *Publisher) {
	if t.cause.Load() == nil {
		return
	}
	t.cause.Store(nil)
	t.mu.Lock()
	tell := t.told
	t.told = false
	t.mu.Unlock()
	if tell {
		p.log(slog.LevelInfo, "sends again")
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

// log tells the log something, in the background.
func (p *Publisher) log(level slog.Level, what string, args ...any) {
	logger := p.client.cfg.Logger
	if !logger.Enabled(context.Background(), level) {
		return
	}
	args = append([]any{"stream", p.stream}, args...)
	p.lines.add(func() { logger.Log(context.Background(), level, "sequin: publisher "+what, args...) })
}

func (l *lines) add(write func()) {
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
func (l *lines) failed(p *Publisher, messages int, err error) {
	l.mu.Lock()
	now := time.Now()
	messages += l.untold
	tell := !now.Before(l.next)
	if l.untold = messages; tell {
		l.next, l.untold = now.Add(tellFailure), 0
	}
	l.mu.Unlock()
	if tell {
		p.log(slog.LevelError, "could not send messages", "messages", messages, "error", err)
	}
}
