package batch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDecide(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	r := rules{limits: Limits{Count: 3, Bytes: 100, Overhead: 10}, hold: 50 * time.Millisecond}
	lingering, unordered := r, r
	lingering.linger = time.Second
	unordered.unordered = true
	never := time.Time{}
	for _, row := range []struct {
		name  string
		lane  laneView
		rules rules
		want  disposition
		wake  time.Time
	}{
		{"a partial batch", laneView{queued: 1, bytes: 10, since: now}, r, leaveIfIdle, now.Add(50 * time.Millisecond)},
		{"a partial batch, just before the hold is over", laneView{queued: 1, bytes: 10, since: ago(50*time.Millisecond - 1)}, r, leaveIfIdle, now.Add(1)},
		{"a partial batch after the hold", laneView{queued: 1, bytes: 10, since: ago(50 * time.Millisecond)}, r, leave, never},
		{"full by count", laneView{queued: 3, bytes: 30, since: now}, r, leave, never},
		{"one less than full by count", laneView{queued: 2, bytes: 30, since: now}, r, leaveIfIdle, now.Add(50 * time.Millisecond)},
		{"full by bytes and overhead", laneView{queued: 1, bytes: 90, since: now}, r, leave, never},
		{"one byte less than full", laneView{queued: 1, bytes: 89, since: now}, r, leaveIfIdle, now.Add(50 * time.Millisecond)},
		{"an urgent item", laneView{queued: 1, bytes: 10, urgent: 1, since: now}, r, leave, never},
		{"a retry", laneView{retries: true}, r, leave, never},
		{"before the linger is over", laneView{queued: 1, bytes: 10, since: ago(time.Second - 1)}, lingering, stay, now.Add(1)},
		{"after the linger, which is longer than the hold", laneView{queued: 1, bytes: 10, since: ago(time.Second)}, lingering, leave, never},
		{"urgent before the linger is over", laneView{queued: 1, bytes: 10, urgent: 1, since: now}, lingering, leave, never},
		{"in backoff", laneView{retries: true, resume: now.Add(1)}, r, stay, now.Add(1)},
		{"at the end of the backoff", laneView{retries: true, resume: now}, r, leave, never},
		{"in backoff, urgent", laneView{queued: 3, urgent: 3, resume: now.Add(1)}, r, stay, now.Add(1)},
		{"in backoff, urgent, in any order", laneView{queued: 3, urgent: 3, resume: now.Add(1)}, unordered, leave, never},
		{"in backoff, full, in any order", laneView{queued: 3, resume: now.Add(1)}, unordered, stay, now.Add(1)},
		{"in backoff, a retry, in any order", laneView{retries: true, urgent: 1, resume: now.Add(1)}, unordered, stay, now.Add(1)},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, wake := decide(row.lane, now, row.rules)
			require.Equal(t, row.want, got)
			require.Equal(t, row.wake, wake)
		})
	}
}

func TestDispatchLetsOnlyTheOldestPartialBatchLeave(t *testing.T) {
	now := time.Now()
	filled := func(inFlight int) *state[parcel, int] {
		cfg := &Config[parcel, int]{Lanes: 4, Slots: 1, Limits: func(int) Limits { return Limits{Count: 3, Bytes: 1000} }}
		s := newState(cfg)
		s.wake()
		s.inFlight = inFlight
		for i, ms := range []time.Duration{3, 5, 4} { // the fourth lane is empty
			s.lanes[i].queue.push(parcel{n: i, key: 1}.entry(), cfg.Limits(i))
			s.lanes[i].since = now.Add(-ms * time.Millisecond)
		}
		return &s
	}
	leaving, wake := filled(0).dispatch(now)
	require.Len(t, leaving, 1)
	require.Equal(t, []int{1}, numbers(leaving[0].Items))
	require.Equal(t, now.Add(MaxHold-4*time.Millisecond), wake, "the next one is due then")

	leaving, wake = filled(1).dispatch(now)
	require.Empty(t, leaving, "another batch is in flight")
	require.Equal(t, now.Add(MaxHold-5*time.Millisecond), wake)

	stopped := filled(0)
	stopped.suspended = errRefused
	leaving, wake = stopped.dispatch(now)
	require.Empty(t, leaving)
	require.Zero(t, wake)
}

func TestAPartialBatchLeavesWhenTheOthersAreDoneOrAfterTheHold(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 3}, func(t *testing.T, d *driver) {
		d.engine.state.pace.record(time.Hour) // the hold is MaxHold
		d.putIn(0, 1, 1)
		time.Sleep(960 * time.Millisecond)
		d.putIn(1, 2, 2) // 40 ms before the first one ends
		time.Sleep(10 * time.Millisecond)
		d.putIn(2, 3, 3)
		d.mustCloseLater(t)
		require.Equal(t, [][]int{{1}, {2}, {3}}, d.ran())
		// 2 leaves when 1 ends. 3 finds 2 in flight then, and leaves when it has waited 50 ms.
		require.Equal(t, []time.Duration{0, time.Second, 1020 * time.Millisecond}, d.times())
	})
}

func TestAFullBatchLeavesBesideOthers(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 2}, func(t *testing.T, d *driver) {
		d.putIn(0, 1, 1)
		synctest.Wait()
		for n := 2; n <= 4; n++ {
			d.putIn(1, n, uint64(n))
		}
		d.mustCloseLater(t)
		require.Equal(t, []time.Duration{0, 0}, d.times())
	})
}

func TestAFlushOfALaneConcernsThatLaneAlone(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 3}, func(t *testing.T, d *driver) {
		d.engine.state.pace.record(time.Hour)
		d.putIn(0, 1, 1)
		synctest.Wait()
		d.putIn(1, 2, 2)
		d.putIn(2, 3, 3)
		d.engine.FlushLane(2)
		d.mustCloseLater(t)
		require.Equal(t, [][]int{{1}, {3}, {2}}, d.ran())
		require.Equal(t, []time.Duration{0, 0, MaxHold}, d.times())
	})
}

func TestALaneThatBacksOffDelaysNoOther(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 2}, func(t *testing.T, d *driver) {
		failures := 2
		d.result = func(b *parcelBatch) parcelResult {
			if b.Items[0].Item.n == 1 && failures > 0 {
				failures--
				return parcelResult{Again: []*parcelBatch{b}, Wait: time.Minute}
			}
			return parcelResult{Done: b.Items}
		}
		d.putIn(0, 1, 1)
		time.Sleep(2 * time.Second) // its lane backs off now, and has nothing in flight
		d.putIn(1, 2, 2)
		d.putIn(0, 3, 3) // waits behind 1
		d.mustCloseLater(t)
		require.Equal(t, [][]int{{1}, {2}, {1}, {1}, {3}}, d.ran())
		require.Equal(t, []time.Duration{0, 2 * time.Second, 61 * time.Second, 122 * time.Second, 123 * time.Second}, d.times())
	})
}

// Only batches that are full leave beyond the slots, and never more than FullSlots says at the time.
func TestFullBatchesLeaveBeyondTheSlots(t *testing.T) {
	full := 3
	withDriver(t, Config[parcel, int]{Slots: 1, Unordered: true, FullSlots: func() int { return full }}, func(t *testing.T, d *driver) {
		inFlight := func() int {
			synctest.Wait()
			d.engine.mu.Lock()
			defer d.engine.mu.Unlock()
			return d.engine.state.inFlight
		}
		admit := func(from, n int) {
			for i := range n {
				require.NoError(t, d.engine.Admit(t.Context(), parcel{n: from + i, size: 10}.entry(), 0, false, false))
			}
		}
		admit(0, 3)
		require.Equal(t, 1, inFlight())
		admit(3, 2)
		require.Equal(t, 1, inFlight(), "it is not full")
		admit(5, 1)
		require.Equal(t, 2, inFlight())
		admit(6, 6)
		require.Equal(t, 3, inFlight())
		full = 4
		d.engine.FlushLane(0)
		require.Equal(t, 4, inFlight())
		full = 10
		require.NoError(t, d.engine.Admit(t.Context(), parcel{n: 12, size: 10}.entry(), 0, true, false))
		require.Equal(t, 4, inFlight(), "an urgent one waits for the slots")
		left, err := d.engine.Close(t.Context())
		require.NoError(t, err)
		require.Empty(t, left)
	})
}
