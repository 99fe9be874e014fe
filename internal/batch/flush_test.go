package batch

import (
	"context"
	"sync/atomic"
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

// Other lanes go on while one cannot send, and their items must not hide for how long the oldest has been waiting.
func TestTheStatsTellHowLongTheOldestItemHasBeenWaiting(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 2, Limits: func(int) Limits { return Limits{Count: 1, Bytes: 1000} }}, func(t *testing.T, d *driver) {
		var passes atomic.Int64 // the last of the two stuck items that gets through
		d.result = func(b *parcelBatch) parcelResult {
			if n := b.Items[0].Item.n; n <= 2 && int64(n) > passes.Load() {
				return parcelResult{Again: []*parcelBatch{b}}
			}
			return parcelResult{Done: b.Items}
		}
		oldest := func() time.Duration { return time.Since(d.engine.Stats().Oldest) }
		require.Zero(t, d.engine.Stats().Oldest)
		began, later := time.Now(), time.Time{}
		require.NoError(t, d.admit(t.Context(), parcel{n: 1, key: 1, size: 10}, 0, false, false))
		for n := range 1000 {
			if n == 500 {
				later = time.Now()
				require.NoError(t, d.admit(t.Context(), parcel{n: 2, key: 2, size: 10}, 0, false, false))
			}
			require.NoError(t, d.admit(t.Context(), parcel{n: 10 + n, key: 3, size: 10}, 1, false, false))
			time.Sleep(1100 * time.Millisecond)
			require.Equal(t, time.Since(began), oldest())
		}
		require.Less(t, d.epochCount(), 60)
		passes.Store(1)
		time.Sleep(2 * time.Second)
		require.GreaterOrEqual(t, oldest(), time.Since(later))
		require.LessOrEqual(t, oldest(), time.Since(later)+later.Sub(began)/epochsPerAge+2*time.Second)
		passes.Store(2)
		d.mustClose()
		require.Zero(t, d.engine.Stats().Oldest)
	})
}

func TestABatchKnowsWhyItLeft(t *testing.T) {
	var why []string
	var waited []time.Duration
	cfg := Config[parcel, int]{Linger: time.Minute}
	withDriver(t, cfg, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult {
			if b.Why != 0 {
				why, waited = append(why, b.Why.String()), append(waited, b.Left.Sub(b.Since))
			}
			b.Why = 0
			return parcelResult{Done: b.Items}
		}
		d.put(1)
		time.Sleep(time.Second)
		d.put(2, 3) // full
		d.put(4)
		time.Sleep(2 * time.Minute) // linger
		require.NoError(t, d.admit(t.Context(), parcel{n: 5, key: 5, size: 999}, 0, false, false))
		time.Sleep(10 * time.Second)
		d.put(6)                                        // too much together
		require.NoError(t, d.engine.Flush(t.Context())) // the run before takes a second
		d.put(7)
		d.mustClose()
		require.Equal(t, []string{"full", "linger", "bytes", "flush", "close"}, why)
		require.Equal(t, []time.Duration{time.Second, time.Minute, 10 * time.Second, time.Second, 0}, waited)
	})
}
