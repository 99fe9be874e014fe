package batch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetriesStayInFrontOfLaterItems(t *testing.T) {
	withDriver(t, Config[parcel, int]{Linger: time.Hour}, func(t *testing.T, d *driver) {
		step := 0
		d.result = func(b *parcelBatch) parcelResult {
			switch step++; step {
			case 1, 2:
				return parcelResult{Again: halves(b)}
			case 3:
				return parcelResult{Again: []*parcelBatch{b}}
			}
			return parcelResult{Done: b.Items}
		}
		d.engine.state.cfg.Limits = func(int) Limits { return Limits{Count: 5, Bytes: 1000} }
		d.putAtOnce(1, 2, 3, 4, 5, 6)
		d.mustClose()
		require.Equal(t, [][]int{{1, 2, 3, 4, 5}, {1, 2}, {1}, {1}, {2}, {3, 4, 5}, {6}}, d.ran())
	})
}

func TestItemsThatAreAdmittedBeforeABatchRunsJoinIt(t *testing.T) {
	for _, row := range []struct {
		name      string
		unordered bool
		ran       [][]int
	}{
		{"in any order", true, [][]int{{1, 2, 3}, {4}}},
		{"not where order matters", false, [][]int{{1}, {2, 3, 4}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			withDriver(t, Config[parcel, int]{Unordered: row.unordered}, func(t *testing.T, d *driver) {
				d.putAtOnce(1, 2, 3, 4)
				d.mustClose()
				require.Equal(t, row.ran, d.ran())
				d.requireEndedOnce(1, 2, 3, 4)
			})
		})
	}
}

func TestNothingJoinsARetry(t *testing.T) {
	withDriver(t, Config[parcel, int]{Unordered: true}, func(t *testing.T, d *driver) {
		first := true
		d.result = func(b *parcelBatch) parcelResult {
			if first {
				first = false
				return parcelResult{Again: []*parcelBatch{b}, Wait: time.Second}
			}
			return parcelResult{Done: b.Items}
		}
		d.put(1)
		time.Sleep(1500 * time.Millisecond) // in the middle of the wait
		d.put(2, 3)
		time.Sleep(time.Minute) // Close would make it urgent
		require.Equal(t, [][]int{{1}, {1}, {2, 3}}, d.ran())
		d.mustClose()
	})
}

func TestTheMemoryOfHalvesIsNotKept(t *testing.T) {
	withDriver(t, Config[parcel, int]{Limits: func(int) Limits { return Limits{Count: 8, Bytes: 1000} }}, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult {
			half := len(b.Items) / 2
			if half == 0 {
				return parcelResult{Done: b.Items}
			}
			return parcelResult{Again: halves(b)}
		}
		d.put(1, 2, 3, 4, 5, 6, 7, 8, 9)
		d.mustClose()
		require.Len(t, d.engine.state.lanes[0].queue.spares, maxSpares)
		requireSound(t, &d.engine.state.lanes[0].queue)
	})
}

func TestTheBackoffOfALaterResultDoesNotDelayAnEarlierRetry(t *testing.T) {
	withDriver(t, Config[parcel, int]{Slots: 2, Unordered: true}, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult {
			if b.Work++; b.Work > 1 {
				return parcelResult{Done: b.Items}
			}
			return parcelResult{Again: []*parcelBatch{b}, Wait: map[int]time.Duration{1: 3 * time.Second, 2: time.Minute}[b.Items[0].Item.n]}
		}
		d.put(1) // runs until 1 s, and again at 4 s
		time.Sleep(time.Second / 2)
		d.put(2)
		d.engine.FlushLane(0) // runs until 1.5 s
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, d.ended[1])
		d.mustClose()
		d.requireEndedOnce(1, 2)
	})
}

func TestTheRestOfABatchRunsAgainUnchanged(t *testing.T) {
	withDriver(t, Config[parcel, int]{}, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult {
			if len(b.Items) == 1 {
				return parcelResult{Done: b.Items}
			}
			return parcelResult{Done: b.Items[:1:1], Again: []*parcelBatch{{Items: b.Items[1:]}}}
		}
		d.put(1, 2, 3, 4)
		d.mustClose()
		d.requireEndedOnce(1, 2, 3, 4)
	})
}
