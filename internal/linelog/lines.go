package linelog

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sequin-go/sequin/internal/background"
)

// maxLines limits the lines of a Lines that wait to be written; further ones are dropped. A Publisher or a Subscriber logs fewer
// while the Handler blocks for a minute.
const maxLines = 64

// Lines writes the lines of a Publisher or a Subscriber. Its goroutines must not wait for the log: a slog.Handler may send through
// a Publisher, and then wait for room that only they can free.
type Lines struct {
	Log   *Log
	Who   string // before each text
	Attrs []any  // of each line

	queue background.Queue
}

// Add writes a line in the background, after those of earlier calls.
func (l *Lines) Add(level slog.Level, what string, args ...any) {
	if l.Log.Enabled(context.Background(), level) {
		l.queue.Add(func() { l.Write(level, what, args...) }, maxLines)
	}
}

// Write writes a line at once.
func (l *Lines) Write(level slog.Level, what string, args ...any) {
	all := make([]any, 0, len(l.Attrs)+len(args))
	l.Log.Write(context.Background(), level, l.Who+" "+what, append(append(all, l.Attrs...), args...)...)
}

// Await waits until the lines of Add are written, or ctx ends.
func (l *Lines) Await(ctx context.Context) { l.queue.Await(ctx) }

// sumInterval is the least time between two lines of a Sum. Thousands of messages may fail one by one.
const sumInterval = time.Second

// Sum counts what happens more often than a line should be written.
type Sum struct {
	mu    sync.Mutex // guards all below
	next  time.Time  // when the next line may be written
	count int        // since the last line
}

// Add counts n, and returns what a line should say: the count since the last line, or 0 if it is not time for one.
func (s *Sum) Add(n int) (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count += n
	now := time.Now()
	if now.Before(s.next) {
		return 0
	}
	count, s.count, s.next = s.count, 0, now.Add(sumInterval)
	return count
}
