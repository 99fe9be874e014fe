package batch

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// suspects makes every batch with one of these parcels a candidate: a batch of several is halved. Its fifth run alone
// fails a parcel for good.
func (d *driver) suspects(bad ...int) {
	d.result = func(b *parcelBatch) parcelResult {
		switch {
		case !slices.ContainsFunc(b.Items, func(e Entry[parcel]) bool { return slices.Contains(bad, e.Item.n) }):
			return parcelResult{Done: b.Items}
		case len(b.Items) > 1:
			return parcelResult{Again: halves(b), Aside: true, Wait: time.Second}
		case b.Work == 4:
			return parcelResult{Failed: b.Items, Err: errRefused}
		}
		b.Work++
		return parcelResult{Again: []*parcelBatch{b}, Aside: true, Wait: time.Second}
	}
}

// admitAll admits parcels numbered from 0 with these keys into lane 0 at once.
func (d *driver) admitAll(keys ...uint64) {
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	for n, key := range keys {
		if d.engine.state.enqueue(parcel{n: n, key: key, size: 10}.entry(), 0, false) {
			d.engine.dispatchLocked()
		}
	}
}

func TestALaneGoesOnBesideItsCandidates(t *testing.T) {
	for _, row := range []struct {
		name    string
		inOrder bool
		keys    []uint64
		bad     []int
		took    time.Duration // until all but the bad ones are sent
	}{
		{"one bad of six", false, []uint64{1, 2, 3, 4, 5, 6}, []int{3}, 5 * time.Second},
		{"two bad, side by side", false, []uint64{1, 2, 3, 4, 5, 6}, []int{2, 3}, 5 * time.Second},
		{"all bad but the last", false, []uint64{1, 2, 3, 4, 5, 6}, []int{0, 1, 2, 3, 4}, 4 * time.Second},
		{"later versions of the bad one's key wait", false, []uint64{1, 2, 1, 1, 2, 2}, []int{0}, 11 * time.Second},
		{"nobody else", false, []uint64{1, 1, 1}, []int{0}, 11 * time.Second},
		{"in order", true, []uint64{1, 2, 3, 4, 5, 6}, []int{0}, 12 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := Config[parcel, int]{InOrder: row.inOrder, Limits: func(int) Limits { return Limits{Count: 2, Bytes: 1000} }}
			withDriver(t, cfg, func(t *testing.T, d *driver) {
				d.suspects(row.bad...)
				began := time.Now()
				var sent time.Duration
				d.onDone = func(err error) {
					if err == nil {
						sent = time.Since(began)
					}
				}
				d.admitAll(row.keys...)
				d.mustClose()
				for n := range row.keys {
					if slices.Contains(row.bad, n) {
						require.ErrorIs(t, d.errs[n], errRefused)
					} else {
						require.NoError(t, d.errs[n])
					}
				}
				require.LessOrEqual(t, sent, row.took)
				byKey := map[uint64][]int{}
				for _, n := range d.endedInOrder() {
					byKey[row.keys[n]] = append(byKey[row.keys[n]], n)
				}
				for key, order := range byKey {
					require.True(t, slices.IsSorted(order), "key %d ended as %v", key, order)
				}
				if row.inOrder {
					require.True(t, slices.IsSorted(d.endedInOrder()))
				}
			})
		})
	}
}

func TestCandidatesOfOneKeyRunOneAfterTheOther(t *testing.T) {
	withDriver(t, Config[parcel, int]{}, func(t *testing.T, d *driver) {
		d.suspects(1)
		d.admitAll(9, 1, 2, 1) // the second batch has halves {1} and {2, 3}
		d.mustClose()
		require.Equal(t, [][]int{{0}, {1, 2, 3}, {1}, {1}, {1}, {1}, {1}, {2, 3}}, d.ran())
	})
}

func TestARetryThatHoldsAnIDOfACandidateFollowsIt(t *testing.T) {
	withDriver(t, Config[parcel, int]{Limits: func(int) Limits { return Limits{Count: 4, Bytes: 1000} }}, func(t *testing.T, d *driver) {
		step := 0
		d.result = func(b *parcelBatch) parcelResult {
			switch step++; step {
			case 1: // {0}, which leaves at once
				return parcelResult{Done: b.Items}
			case 2: // {1, 2, 3, 4}
				return parcelResult{Again: halves(b)}
			case 3: // {1, 2}
				return parcelResult{Again: []*parcelBatch{b}, Aside: true, Wait: time.Minute}
			}
			return parcelResult{Done: b.Items}
		}
		d.admitAll(9, 1, 2, 2, 3, 4)
		time.Sleep(time.Hour)
		require.Equal(t, [][]int{{0}, {1, 2, 3, 4}, {1, 2}, {5}, {1, 2}, {3, 4}}, d.ran())
		d.mustClose()
	})
}

func TestRetriesKeepTheOrderOfEachIDWhenSomeFollowACandidate(t *testing.T) {
	for _, row := range []struct {
		name    string
		inOrder bool
		ran     [][]int
	}{
		// {3, 4} follows the candidate {1}. It holds a later item of the ID in {2}.
		{"beside the lane", false, [][]int{{0}, {1, 2, 3, 4, 5}, {1}, {5}, {1}, {2}, {3, 4}}},
		{"in order", true, [][]int{{0}, {1, 2, 3, 4, 5}, {1}, {1}, {2}, {3, 4}, {5}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := Config[parcel, int]{InOrder: row.inOrder, Limits: func(int) Limits { return Limits{Count: 5, Bytes: 1000} }}
			withDriver(t, cfg, func(t *testing.T, d *driver) {
				var steps atomic.Int32 // candidates run side by side
				d.result = func(b *parcelBatch) parcelResult {
					switch steps.Add(1) {
					case 2: // {1, 2, 3, 4, 5}
						return parcelResult{Again: []*parcelBatch{{Items: b.Items[:1]}, {Items: b.Items[1:2]}, {Items: b.Items[2:4]}, {Items: b.Items[4:]}}}
					case 3: // {1}
						return parcelResult{Again: []*parcelBatch{b}, Aside: true, Wait: time.Minute}
					}
					return parcelResult{Done: b.Items}
				}
				d.admitAll(9, 1, 2, 1, 2, 3)
				time.Sleep(time.Hour)
				ran := d.ran()
				require.ElementsMatch(t, row.ran, ran) // {1} and {2} run side by side where nothing keeps their order
				before := func(a, b []int) bool { return slices.IndexFunc(ran, equals(a)) < slices.IndexFunc(ran, equals(b)) }
				require.True(t, before([]int{2}, []int{3, 4}), "%v", ran)
				require.Equal(t, !row.inOrder, before([]int{5}, []int{2}), "%v", ran)
				d.mustClose()
			})
		})
	}
}

func equals(a []int) func([]int) bool { return func(b []int) bool { return slices.Equal(a, b) } }

func TestAtMostEightCandidatesRunAtOnce(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 3, Limits: func(int) Limits { return Limits{Count: 1, Bytes: 1000} }}, func(t *testing.T, d *driver) {
		due := time.Now().Add(time.Minute)
		d.result = func(b *parcelBatch) parcelResult {
			if b.Work++; b.Work == 1 {
				return parcelResult{Again: []*parcelBatch{b}, Aside: true, Wait: time.Until(due)}
			}
			return parcelResult{Done: b.Items}
		}
		for n := range 30 {
			d.putIn(n%3, n, uint64(n)+1)
		}
		d.mustClose()
		running := map[time.Duration]int{}
		for _, at := range d.times()[30:] {
			running[at]++ // a run takes a second, and all begin at full seconds
		}
		require.Equal(t, map[time.Duration]int{60 * time.Second: 8, 61 * time.Second: 8, 62 * time.Second: 8, 63 * time.Second: 6}, running)
	})
}

func TestAnItemOfAnotherIDLeavesThoughItsQueueIsHeldByACandidate(t *testing.T) {
	withDriver(t, Config[parcel, int]{Linger: time.Hour}, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult {
			if b.Items[0].Item.n == 0 {
				return parcelResult{Again: []*parcelBatch{b}, Aside: true, Wait: 24 * time.Hour}
			}
			return parcelResult{Done: b.Items}
		}
		require.NoError(t, d.admit(t.Context(), parcel{n: 0, key: 1, size: 10}, 0, true, true))
		time.Sleep(2 * time.Second)
		for n := 1; n < 5; n++ {
			d.putIn(0, n, 1)
		}
		time.Sleep(time.Minute)
		d.putIn(0, 5, 2)
		time.Sleep(time.Second + MaxHold)
		require.Equal(t, [][]int{{0}, {5}}, d.ran(), "and does not linger: it shows whether the server is well")
		left, _ := d.close(endedCtx())
		require.Equal(t, []int{0, 1, 2, 3, 4}, left)
	})
}

func TestDropTakesFromCandidatesThatWaitAndKeepsTheirWork(t *testing.T) {
	cfg := Config[parcel, int]{Part: func(b *parcelBatch) int { return b.Work + 1 }}
	withDriver(t, cfg, func(t *testing.T, d *driver) {
		var seen []int
		d.result = func(b *parcelBatch) parcelResult {
			if b.Items[0].Item.n == 0 {
				return parcelResult{Done: b.Items}
			}
			if seen = append(seen, b.Work); len(seen) == 1 {
				b.Work = 7
				return parcelResult{Again: []*parcelBatch{b}, Aside: true, Wait: time.Minute}
			}
			return parcelResult{Done: b.Items}
		}
		d.admitAll(9, 1, 2, 3)
		time.Sleep(3 * time.Second)
		d.engine.Drop(func(p *parcel) bool { return p.n == 1 }, errRefused)
		time.Sleep(59500 * time.Millisecond) // in the middle of the second run
		d.engine.Drop(func(p *parcel) bool { return p.n == 2 }, errRefused)
		d.mustClose()
		require.ErrorIs(t, d.errs[1], errRefused)
		require.NoError(t, d.errs[2], "it was in flight")
		d.requireEndedOnce(0, 1, 2, 3)
		require.Equal(t, []int{0, 8}, seen)
		require.Equal(t, []int{2, 3}, d.ran()[2])
	})
}
