package batch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// kept returns for how much an engine without items has memory: for items, IDs, lanes, waiters, epochs and timers.
func kept(d *driver) (n int) {
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	s := &d.engine.state
	for _, timer := range []*time.Timer{d.engine.rest.timer, d.engine.alarm.timer} {
		if timer != nil {
			n++
		}
	}
	for _, l := range s.lanes {
		for _, b := range l.queue.blocks {
			n += cap(b.items)
		}
		for _, spare := range l.queue.spares {
			n += cap(spare)
		}
		n += len(l.queue.ids.slots) + cap(l.queue.sorted)
	}
	return n + len(s.lanes) + cap(s.leaving) + len(s.cutter.seen.slots) + cap(s.cutter.taken) + len(s.epochs) - 1 + cap(s.waiters)
}

// locked calls look with the engine's lock held.
func locked(d *driver, look func(e *Engine[parcel, int])) {
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	look(d.engine)
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

func TestARestingEngineHasNoMemoryOfATroubledTime(t *testing.T) {
	rests := 0
	cfg := Config[parcel, int]{Lanes: 2, MaxItems: 4, Linger: time.Second, Rest: func() { rests++ }}
	withDriver(t, cfg, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult { return parcelResult{Again: []*parcelBatch{b}, Wait: time.Second} }
		for n := range 20 {
			go d.put(n)
			time.Sleep(time.Minute)
		}
		locked(d, func(e *Engine[parcel, int]) {
			require.Greater(t, len(e.state.epochs), 1)
			require.Len(t, e.state.waiters, 16)
			require.NotNil(t, e.alarm.timer)
		})
		d.mu.Lock()
		d.result = nil
		d.mu.Unlock()
		for range 20 { // each one for those that have found room
			require.NoError(t, d.engine.Flush(t.Context()))
			synctest.Wait()
		}
		var longer **epoch
		locked(d, func(e *Engine[parcel, int]) { longer = &e.state.epochs[0] })
		time.Sleep(time.Minute)
		require.Zero(t, kept(d))
		require.Len(t, d.ended, 20)
		require.Equal(t, 1, rests)
		locked(d, func(e *Engine[parcel, int]) { require.NotSame(t, longer, &e.state.epochs[0]) })
		d.engine.FlushLane(1)
		require.NoError(t, d.engine.Flush(t.Context()))
		locked(d, func(e *Engine[parcel, int]) { require.Empty(t, e.state.lanes, "there is nothing to flush") })
	})
}

func TestAnEngineThatHasRestedHasAsManyLanesAsBefore(t *testing.T) {
	cfg := Config[parcel, int]{Lanes: 1, MaxLanes: 4, Limits: func(int) Limits { return Limits{Count: 100, Bytes: 10_000} }}
	withDriver(t, cfg, func(t *testing.T, d *driver) {
		for _, lanes := range []int{1, 4, 2} {
			d.setLanes(lanes)
			d.put(4)
			require.NoError(t, d.engine.Flush(t.Context()))
			time.Sleep(2 * idleFor)
			require.Zero(t, kept(d))
			before := len(d.ran())
			_, err := d.engine.AdmitSome(parcels(4, 5, 6, 7), func(e *Entry[parcel]) int { return d.engine.Lane(e.ID) })
			require.NoError(t, err)
			require.NoError(t, d.engine.Flush(t.Context()))
			require.Len(t, d.openLanes(), lanes)
			require.Len(t, d.ran()[before:], lanes)
		}
	})
}

func TestALaneBacksOffAlthoughNothingIsLeft(t *testing.T) {
	withDriver(t, Config[parcel, int]{}, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult {
			return parcelResult{Failed: b.Items, Err: errRefused, Wait: 3 * idleFor}
		}
		d.put(1)
		time.Sleep(2 * idleFor)
		d.put(2)
		d.mustClose()
		require.Equal(t, 1, d.ended[1])
		require.Equal(t, time.Second+3*idleFor, d.times()[1])
	})
}

func TestAnEngineWhoseLastItemsAreDroppedRestsToo(t *testing.T) {
	withDriver(t, Config[parcel, int]{Linger: time.Hour}, func(t *testing.T, d *driver) {
		d.put(1, 2)
		d.engine.Drop(func(*parcel) bool { return true }, errRefused)
		time.Sleep(2 * idleFor)
		require.Zero(t, kept(d))
		require.NoError(t, d.engine.Flush(t.Context()))
	})
}

func TestAnEngineThatRestsOpensNoLanes(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 1, MaxLanes: 4}, func(t *testing.T, d *driver) {
		d.put(1)
		require.NoError(t, d.engine.Flush(t.Context()))
		d.engine.Suspend(errRefused)
		d.setLanes(4)
		time.Sleep(2 * idleFor)
		d.engine.Resume()
		require.Zero(t, kept(d))
		d.put(4)
		require.Equal(t, []int{0, 1, 2, 3}, d.openLanes())
		d.mustClose()
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
		require.NotNil(t, d.engine.rest.timer)
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
		require.Nil(t, d.engine.rest.timer)
	})
}
