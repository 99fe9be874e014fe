package batch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// kept returns for how many items an engine has memory.
func kept(d *driver) (n int) {
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	s := &d.engine.state
	for _, l := range s.lanes {
		for _, b := range l.queue.blocks {
			n += cap(b.items)
		}
		for _, spare := range l.queue.spares {
			n += cap(spare)
		}
		n += len(l.queue.ids.slots) + cap(l.queue.sorted)
	}
	return n + cap(s.leaving) + len(s.cutter.seen.slots) + cap(s.cutter.taken)
}

func TestAnEngineWithoutItemsFreesItsMemoryAfterAWhile(t *testing.T) {
	cfg := Config[parcel, int]{Lanes: 4, Compare: func(a, b parcel) int { return b.n - a.n }, // the opposite of the order in which they come
		Limits: func(int) Limits { return Limits{Count: 3, Bytes: 1000, Distinct: true} }}
	withDriver(t, cfg, func(t *testing.T, d *driver) {
		d.put(1, 2, 3, 4, 5)
		require.NoError(t, d.engine.Flush(t.Context()))
		time.Sleep(idleFor / 2)
		d.put(6)
		require.NoError(t, d.engine.Flush(t.Context()))
		time.Sleep(idleFor/2 + time.Second)
		require.Positive(t, kept(d), "it was used meanwhile")
		time.Sleep(idleFor)
		require.Zero(t, kept(d))
		d.put(7)
		require.NoError(t, d.engine.Flush(t.Context()))
		require.Positive(t, kept(d))
		time.Sleep(2 * idleFor)
		require.Zero(t, kept(d), "as often as it is used")
		require.Equal(t, 1, d.ended[7])
	})
}

func TestAnEngineWithItemsFreesNothing(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 1}, func(t *testing.T, d *driver) {
		d.put(1)
		require.NoError(t, d.engine.Flush(t.Context()))
		time.Sleep(idleFor / 2)
		d.result = func(b *parcelBatch) parcelResult { return parcelResult{Again: []*parcelBatch{b}, Wait: 3 * idleFor} }
		d.put(2)
		synctest.Wait()
		d.put(3) // it is queued behind the retry
		time.Sleep(2 * idleFor)
		d.result = nil
		require.NoError(t, d.engine.Flush(t.Context()))
		require.Equal(t, map[int]int{1: 1, 2: 1, 3: 1}, d.ended)
	})
}

func TestAClosedEngineHasNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t, Config[parcel, int]{})
		d.put(1)
		require.NoError(t, d.engine.Flush(t.Context()))
		synctest.Wait() // Flush returns before the run has set the timer
		require.True(t, d.engine.rest.set)
		_, _ = d.close(t.Context())
		require.False(t, d.engine.rest.timer.Stop())
		d.engine.rested() // it was about to run
		require.Positive(t, kept(d), "Close reads the queues without the lock")
	})
}

func TestAnEngineThatCloseHasDrainedSetsNoTimer(t *testing.T) {
	withDriver(t, Config[parcel, int]{}, func(t *testing.T, d *driver) {
		d.put(1)
		_, _ = d.close(t.Context())
		synctest.Wait()
		require.False(t, d.engine.rest.set)
	})
}
