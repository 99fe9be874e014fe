package batch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAFlushWaitsOnlyForWhatWasAdmittedBeforeIt(t *testing.T) {
	withDriver(t, Config[parcel, int]{}, func(t *testing.T, d *driver) {
		require.NoError(t, d.engine.Flush(endedCtx()), "nothing to wait for")
		began := time.Now()
		d.put(1, 2, 3, 4)
		flushed := make(chan time.Duration, 2)
		go func() { _ = d.engine.Flush(t.Context()); flushed <- time.Since(began) }()
		synctest.Wait()
		d.put(5, 6, 7, 8)
		_ = d.engine.Flush(t.Context())
		require.Equal(t, 2*time.Second, <-flushed)
		require.Equal(t, 4*time.Second, time.Since(began)) // {1} {2 3 4} {5 6 7} {8}
		d.mustClose()
	})
}

func TestFlushesThatGiveUpLeaveNoEpochBehind(t *testing.T) {
	withDriver(t, Config[parcel, int]{}, func(t *testing.T, d *driver) {
		d.put(1, 2)
		for range 100 {
			require.ErrorIs(t, d.engine.Flush(endedCtx()), context.Canceled)
		}
		require.Equal(t, 2, d.epochCount())
		require.NoError(t, d.engine.Flush(t.Context()))
		require.Equal(t, 1, d.epochCount())
		d.mustClose()
	})
}

func (d *driver) epochCount() int {
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	return len(d.engine.state.epochs)
}
