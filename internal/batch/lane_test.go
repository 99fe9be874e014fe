package batch

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestItemsThatArePutBackStayInFrontOfLaterOnes(t *testing.T) {
	once := func() Limits { return Limits{Count: 4, Bytes: 1000, Distinct: true} }
	t.Run("requeued items", func(t *testing.T) {
		withDriver(t, Config[parcel, int]{Limits: once, Linger: time.Hour}, func(t *testing.T, d *driver) {
			first := true
			d.result = func(b *parcelBatch) parcelResult {
				if first {
					first = false
					return parcelResult{Requeue: b.Items}
				}
				return parcelResult{Done: b.Items}
			}
			for n := range 4 {
				d.putIn(0, n, uint64(n)+1)
			}
			d.putIn(0, 4, 1)
			time.Sleep(time.Minute)
			require.Equal(t, [][]int{{0, 1, 2, 3}, {0, 1, 2, 3}}, d.ran(), "what left once does not linger again")
			d.mustClose()
		})
	})
	t.Run("retries behind requeued items", func(t *testing.T) {
		withDriver(t, Config[parcel, int]{Linger: time.Hour}, func(t *testing.T, d *driver) {
			step := 0
			d.result = func(b *parcelBatch) parcelResult {
				switch step++; step {
				case 1:
					return parcelResult{Again: halves(b)}
				case 2:
					return parcelResult{Requeue: b.Items}
				}
				return parcelResult{Done: b.Items}
			}
			d.put(1, 2, 3)
			d.mustClose()
			require.Equal(t, [][]int{{1, 2, 3}, {1}, {1, 2, 3}}, d.ran())
		})
	})
}

// failsOn makes every batch with one of these parcels fail. A batch of several is halved. A single parcel becomes a
// candidate, and fails for good once another batch has succeeded since.
func (d *driver) failsOn(bad ...int) {
	done, seen := 0, map[int]int{}
	d.result = func(b *parcelBatch) parcelResult {
		fails := slices.ContainsFunc(b.Items, func(e Entry[parcel]) bool { return slices.Contains(bad, e.Item.n) })
		n, half := b.Items[0].Item.n, len(b.Items)/2
		switch before, known := seen[n]; {
		case !fails:
			done++
			return parcelResult{Done: b.Items}
		case half > 0:
			return parcelResult{Again: halves(b), Wait: time.Second}
		case known && done > before:
			return parcelResult{Failed: b.Items, Err: errRefused}
		default:
			seen[n] = done
			return parcelResult{Candidate: b, Wait: time.Second}
		}
	}
}

func TestPoisonCandidatesTakeTurnsWithControlBatches(t *testing.T) {
	once := func() Limits { return Limits{Count: 6, Bytes: 1000, Distinct: true} }
	for _, row := range []struct {
		name   string
		keys   []uint64
		bad    []int
		sent   []int
		failed bool
	}{
		{"one bad of six", []uint64{1, 2, 3, 4, 5, 6}, []int{3}, []int{0, 1, 2, 4, 5}, true},
		{"two bad, side by side", []uint64{1, 2, 3, 4, 5, 6}, []int{2, 3}, []int{0, 1, 4, 5}, true},
		{"all bad but the last", []uint64{1, 2, 3, 4, 5, 6}, []int{0, 1, 2, 3, 4}, []int{5}, true},
		{"later versions of the bad one's key stay behind it", []uint64{1, 2, 1, 1, 2, 2}, []int{0}, []int{1, 2, 3, 4, 5}, true},
		{"nothing fails without a control batch", []uint64{1, 1, 1}, []int{0}, nil, false},
		{"two bad ones are no controls for each other", []uint64{1, 2}, []int{0, 1}, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			withDriver(t, Config[parcel, int]{Limits: once}, func(t *testing.T, d *driver) {
				d.failsOn(row.bad...)
				d.engine.mu.Lock()
				for n, key := range row.keys {
					if d.engine.state.enqueue(parcel{n: n, key: key, size: 10}.entry(), 0, false) {
						d.engine.dispatchLocked()
					}
				}
				d.engine.mu.Unlock()
				time.Sleep(time.Hour)
				if !row.failed {
					require.Empty(t, d.errs)
					left, _ := d.close(endedCtx())
					require.Len(t, left, len(row.keys))
					return
				}
				d.mustClose()
				for _, n := range row.sent {
					require.NoError(t, d.errs[n])
				}
				for _, n := range row.bad {
					require.ErrorIs(t, d.errs[n], errRefused)
				}
				byKey := map[uint64][]int{}
				for _, n := range d.endedInOrder() {
					byKey[row.keys[n]] = append(byKey[row.keys[n]], n)
				}
				for key, order := range byKey {
					require.True(t, slices.IsSorted(order), "key %d ended as %v", key, order)
				}
			})
		})
	}
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
	withDriver(t, Config[parcel, int]{Limits: func() Limits { return Limits{Count: 8, Bytes: 1000} }}, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult {
			half := len(b.Items) / 2
			if half == 0 {
				return parcelResult{Done: b.Items}
			}
			return parcelResult{Again: halves(b)}
		}
		d.put(1, 2, 3, 4, 5, 6, 7, 8, 9)
		d.mustClose()
		require.Len(t, d.engine.state.lanes[0].spares, 1, "one for each slot")
	})
}
