package linelog

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// handler calls a function with each line.
type handler struct {
	slog.Handler
	line func(slog.Record)
}

func (h handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	h.line(r)
	return nil
}

// deep calls f from a stack of n more calls.
func deep(n int, f func()) {
	if n > 0 {
		deep(n-1, f)
		return
	}
	f()
}

func TestALogKnowsWhenItsHandlerCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l *Log
		var inside []bool
		begun, end := make(chan struct{}), make(chan struct{})
		l = New(slog.New(handler{line: func(r slog.Record) {
			require.Equal(t, "sequin: text", r.Message)
			for _, n := range []int{0, 50, 100, 300} {
				deep(n, func() { inside = append(inside, l.Calls()) })
			}
			close(begun)
			<-end
		}}))
		require.False(t, l.Calls())
		go l.Write(t.Context(), slog.LevelInfo, "text")
		<-begun
		require.False(t, l.Calls(), "another goroutine writes")
		deep(100, func() { require.False(t, l.Calls()) })
		close(end)
		synctest.Wait()
		require.Equal(t, []bool{true, true, true, true}, inside)
		require.False(t, l.Calls())
	})
}

func TestLinesThatAHandlerCannotKeepUpWithAreDroppedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dropped []int64
		lines, gate := 0, make(chan struct{})
		l := New(slog.New(handler{line: func(r slog.Record) {
			<-gate
			lines++
			r.Attrs(func(a slog.Attr) bool {
				if a.Key == "lines_dropped" {
					dropped = append(dropped, a.Value.Int64())
				}
				return true
			})
		}}))
		l.Later(t.Context(), slog.LevelDebug, "text")
		synctest.Wait() // the handler has it
		for range maxLater + 5 {
			l.Later(t.Context(), slog.LevelDebug, "text", "n", 1)
		}
		ended, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		l.Await(ended)
		require.Zero(t, lines)
		close(gate)
		l.Await(t.Context())
		require.Equal(t, maxLater+1, lines)
		require.Equal(t, []int64{5}, dropped)
	})
}
