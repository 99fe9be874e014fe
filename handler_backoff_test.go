package sequin_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// The message of a handler that fails comes back at once. While all handlers fail the pause between two messages stays: a server
// would be asked thousands of times a second otherwise.
func TestWithoutABackoffAFailedMessageComesBackAtOnce(t *testing.T) {
	withEachHandler(t, func(t *testing.T, w *world, handle runHandler) {
		const failures = 8 // ten in a row slow the Subscriber down
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{PollMax: 10 * time.Millisecond})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return handle(ctx, sub, sequin.HandlerConfig{BackoffMin: sequin.NoBackoff, OnError: b.failed}, func(_ context.Context, d sequin.Delivery) error {
				if b.note(d); b.count() > failures {
					return nil
				}
				return errDown
			})
		})
		time.Sleep(5 * time.Second)
		require.NoError(t, run.stop())
		require.Equal(t, failures+1, b.count())
		require.Len(t, b.reported(), failures)
		require.Less(t, b.calls[failures].at, 200*time.Millisecond)
		w.requireSettled(t, "orders")
	})
}

func TestWithoutABackoffAnOutageOfTheHandlersIsPaced(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 100, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: sequin.NoBackoff}, b.fail)
		})
		time.Sleep(10 * time.Minute)
		require.NoError(t, run.stop())
		require.Less(t, b.count(), 200, "%d calls", b.count())
	})
}

// fail is a handler that fails.
func (b *callLog) fail(_ context.Context, d sequin.Delivery) error {
	b.note(d)
	return errDown
}
