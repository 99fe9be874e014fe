// Package linelog writes the log lines of a Client to a slog.Logger.
//
// The Handler of that Logger may itself send through the Client. A [Log] therefore tells whether its caller is the Handler, which
// writes one of its lines at that moment: what the Handler causes must not be logged, or each line would cause the next one.
//
// A Log owns the lines that wait to be written, in a queue with a goroutine of its own while there are any.
package linelog

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/sequin-go/sequin/internal/background"
)

// maxLater limits the lines of Later that wait to be written. A Client makes that many requests in a tenth of a second at most,
// and a Handler that is so far behind would only fall back further.
const maxLater = 1024

// Log writes lines. Its methods may be called from any goroutine.
type Log struct {
	logger  *slog.Logger
	writing atomic.Int32     // lines that are being written
	later   background.Queue // lines of Later
	dropped atomic.Int64     // lines of Later that were not written since the last one that was
}

// New returns a Log for a logger.
func New(logger *slog.Logger) *Log { return &Log{logger: logger} }

// Enabled reports whether lines of a level are written.
func (l *Log) Enabled(ctx context.Context, level slog.Level) bool {
	return l.logger.Enabled(ctx, level)
}

// Write writes a line, with the name of the library in front.
func (l *Log) Write(ctx context.Context, level slog.Level, text string, args ...any) {
	l.writing.Add(1)
	defer l.writing.Add(-1)
	write(ctx, l.logger, level, "sequin: "+text, args)
}

// write is on the stack of whatever the Handler calls. It is not inlined, so that a stack shows it.
//
//go:noinline
func write(ctx context.Context, logger *slog.Logger, level slog.Level, text string, args []any) {
	logger.Log(ctx, level, text, args...)
}

// Later writes a line in the background, after those of earlier calls, with the values of ctx. If too many lines wait it is
// dropped, and the next one that is written has their number.
func (l *Log) Later(ctx context.Context, level slog.Level, text string, args ...any) {
	ctx = context.WithoutCancel(ctx)
	line := func() {
		if dropped := l.dropped.Swap(0); dropped > 0 {
			args = append(args, "lines_dropped", dropped)
		}
		l.Write(ctx, level, text, args...)
	}
	if !l.later.Add(line, maxLater) {
		l.dropped.Add(1)
	}
}

// Await waits until the lines of Later are written, or ctx ends.
func (l *Log) Await(ctx context.Context) { l.later.Await(ctx) }

// writeName is the name of write in a stack.
const writeName = "internal/linelog.write"

// Calls reports whether the caller is called by a Handler that writes a line. A Handler that passes its lines to another
// goroutine is not recognised there. Calls costs an atomic load while no line is being written.
func (l *Log) Calls() bool {
	if l.writing.Load() == 0 {
		return false
	}
	var stack [64]uintptr
	for skip := 2; ; skip += len(stack) {
		n := runtime.Callers(skip, stack[:])
		frames := runtime.CallersFrames(stack[:n])
		for more := n > 0; more; {
			var f runtime.Frame
			f, more = frames.Next()
			if strings.HasSuffix(f.Function, writeName) {
				return true
			}
		}
		if n < len(stack) {
			return false
		}
	}
}
