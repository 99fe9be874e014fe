package watermillsequin_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	watermillsequin "github.com/sequin-go/sequin/adapters/watermill"
	"github.com/sequin-go/sequin/sequintest"
)

// published begins to publish a message whose context ends after some time, or never if that is 0. The channel gets the result.
func (w *world) published(t *testing.T, after time.Duration) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if after > 0 {
		ctx, cancel = context.WithTimeout(ctx, after)
	}
	t.Cleanup(cancel)
	result := make(chan error, 1)
	go func() { result <- w.pub.Publish("topic", message.NewMessageWithContext(ctx, "1", nil)) }()
	synctest.Wait()
	return result
}

// stall makes the server not answer the next request, or any if count is 0.
func (w *world) stall(count int) {
	w.srv.Fault(sequintest.Fault{Delay: 24 * time.Hour, Count: count})
}

func TestAMessageWaitsForItsStreamAsLongAsItsContext(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		w.stall(0)
		first := w.published(t, time.Minute)
		begin := time.Now()
		require.ErrorIs(t, <-w.published(t, 300*time.Millisecond), context.DeadlineExceeded)
		require.Equal(t, 300*time.Millisecond, time.Since(begin))
		require.ErrorIs(t, <-first, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(begin))
	})
}

func TestTheNextMessageCreatesTheStreamThatTheFirstGaveUp(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		w.stall(1)
		first, next := w.published(t, time.Second), w.published(t, 0)
		begin := time.Now()
		require.NoError(t, <-next)
		require.Equal(t, time.Second, time.Since(begin))
		require.ErrorIs(t, <-first, context.DeadlineExceeded)
	})
}

func TestCloseEndsThePublishThatCreatesAStream(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		w.stall(0)
		creates, waits := w.published(t, 0), w.published(t, 0)
		begin := time.Now()
		require.NoError(t, w.pub.Close())
		require.ErrorIs(t, <-creates, watermillsequin.ErrClosed)
		require.ErrorIs(t, <-waits, watermillsequin.ErrClosed)
		require.Zero(t, time.Since(begin))
	})
}
