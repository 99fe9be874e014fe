package batch

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// putIn admits one parcel into a lane.
func (d *depot) putIn(lane, n int, key uint64) {
	d.t.Helper()
	require.NoError(d.t, d.admit(context.Background(), parcel{n: n, key: key, size: 10}, lane, false, true))
}

func TestAPartialBatchWaitsForTheOthersAndLeavesWhenTheyAreDone(t *testing.T) {
	inDepot(t, Config[parcel, int]{Lanes: 3}, func(t *testing.T, d *depot) {
		d.pace.note(time.Hour) // hold is its maximum
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

// mustCloseLater closes without the urgent of a close.
func (d *depot) mustCloseLater(t *testing.T) {
	t.Helper()
	time.Sleep(time.Hour)
	d.mustClose()
}

func TestAFullBatchLeavesBesideOthers(t *testing.T) {
	inDepot(t, Config[parcel, int]{Lanes: 2}, func(t *testing.T, d *depot) {
		d.putIn(0, 1, 1)
		synctest.Wait()
		for n := 2; n <= 4; n++ {
			d.putIn(1, n, uint64(n))
		}
		d.mustCloseLater(t)
		require.Equal(t, []time.Duration{0, 0}, d.times())
	})
}

func TestAHurryConcernsItsLaneAlone(t *testing.T) {
	inDepot(t, Config[parcel, int]{Lanes: 3}, func(t *testing.T, d *depot) {
		d.pace.note(time.Hour)
		d.putIn(0, 1, 1)
		synctest.Wait()
		d.putIn(1, 2, 2)
		d.putIn(2, 3, 3)
		d.FlushLane(2)
		d.mustCloseLater(t)
		require.Equal(t, [][]int{{1}, {3}, {2}}, d.ran())
		require.Equal(t, []time.Duration{0, 0, MaxHold}, d.times())
	})
}

func TestALaneThatWaitsToTryAgainHoldsBackNobody(t *testing.T) {
	inDepot(t, Config[parcel, int]{Lanes: 2}, func(t *testing.T, d *depot) {
		refusals := 2
		d.judge = func(b *parcelBatch) parcelResult {
			if b.Items[0].Item.n == 1 && refusals > 0 {
				refusals--
				return parcelResult{Again: []*parcelBatch{b}, Wait: time.Minute}
			}
			return parcelResult{Done: b.Items}
		}
		d.putIn(0, 1, 1)
		time.Sleep(2 * time.Second) // its lane is in backoff now, and has nothing in flight
		d.putIn(1, 2, 2)
		d.putIn(0, 3, 3) // waits behind 1
		d.mustCloseLater(t)
		require.Equal(t, [][]int{{1}, {2}, {1}, {1}, {3}}, d.ran())
		require.Equal(t, []time.Duration{0, 2 * time.Second, 61 * time.Second, 122 * time.Second, 123 * time.Second}, d.times())
	})
}

func TestWhatIsPutBackStaysInFrontOfWhatCameLater(t *testing.T) {
	once := func() Limits { return Limits{Count: 4, Bytes: 1000, Distinct: true} }
	t.Run("cut anew", func(t *testing.T) {
		inDepot(t, Config[parcel, int]{Limits: once, Linger: time.Hour}, func(t *testing.T, d *depot) {
			first := true
			d.judge = func(b *parcelBatch) parcelResult {
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
	t.Run("halves that wait behind it", func(t *testing.T) {
		inDepot(t, Config[parcel, int]{}, func(t *testing.T, d *depot) {
			step := 0
			d.judge = func(b *parcelBatch) parcelResult {
				switch step++; step {
				case 1:
					return parcelResult{Again: []*parcelBatch{{Items: b.Items[:1:1]}, {Items: b.Items[1:]}}}
				case 2:
					return parcelResult{Requeue: b.Items}
				}
				return parcelResult{Done: b.Items}
			}
			d.put(1, 2, 3)
			d.FlushLane(0)
			time.Sleep(time.Minute)
			require.Equal(t, [][]int{{1}, {2, 3}, {2}, {2, 3}}[0], d.ran()[0])
			d.mustClose()
			require.True(t, slices.IsSorted(d.endedInOrder()), "%v", d.endedInOrder())
		})
	})
}

// endedInOrder is what the runs held last, in their order: for depots where each parcel's last run ends it.
func (d *depot) endedInOrder() []int {
	var order []int
	for _, run := range slices.Backward(d.ran()) {
		for _, n := range slices.Backward(run) {
			if !slices.Contains(order, n) {
				order = append(order, n)
			}
		}
	}
	slices.Reverse(order)
	return order
}

// crashing answers that these parcels, wherever they are, spoil their batch: what a batch of more than one becomes is
// halved, and a single one is candidate until some other batch was done since.
func (d *depot) crashing(bad ...int) {
	done, seen := 0, map[int]int{}
	d.judge = func(b *parcelBatch) parcelResult {
		spoiled := slices.ContainsFunc(b.Items, func(e Entry[parcel]) bool { return slices.Contains(bad, e.Item.n) })
		n, half := b.Items[0].Item.n, len(b.Items)/2
		switch before, known := seen[n]; {
		case !spoiled:
			done++
			return parcelResult{Done: b.Items}
		case half > 0:
			return parcelResult{Again: []*parcelBatch{{Items: b.Items[:half:half]}, {Items: b.Items[half:]}}, Wait: time.Second}
		case known && done > before:
			return parcelResult{Failed: b.Items, Err: errRefused}
		default:
			seen[n] = done
			return parcelResult{Candidate: b, Wait: time.Second}
		}
	}
}

func TestSuspectsTakeTurnsWithWitnesses(t *testing.T) {
	once := func() Limits { return Limits{Count: 6, Bytes: 1000, Distinct: true} }
	for _, row := range []struct {
		name      string
		keys      []uint64
		bad       []int
		sent      []int
		convicted bool
	}{
		{"one bad of six", []uint64{1, 2, 3, 4, 5, 6}, []int{3}, []int{0, 1, 2, 4, 5}, true},
		{"two bad, side by side", []uint64{1, 2, 3, 4, 5, 6}, []int{2, 3}, []int{0, 1, 4, 5}, true},
		{"all bad but the last", []uint64{1, 2, 3, 4, 5, 6}, []int{0, 1, 2, 3, 4}, []int{5}, true},
		{"versions of the bad one's key stay behind it", []uint64{1, 2, 1, 1, 2, 2}, []int{0}, []int{1, 2, 3, 4, 5}, true},
		{"without a control batch nothing is given up", []uint64{1, 1, 1}, []int{0}, nil, false},
		{"what is bad is no control batch against another", []uint64{1, 2}, []int{0, 1}, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			inDepot(t, Config[parcel, int]{Limits: once}, func(t *testing.T, d *depot) {
				d.crashing(row.bad...)
				d.Engine.mu.Lock()
				for n, key := range row.keys {
					d.enqueueLocked(parcel{n: n, key: key, size: 10}.entry(), 0, false)
				}
				d.Engine.mu.Unlock()
				time.Sleep(time.Hour)
				if !row.convicted {
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

func TestTheHoldFollowsTheMedianOfRuns(t *testing.T) {
	var p pace
	require.Equal(t, MaxHold, p.hold(), "nothing known yet")
	p.note(5 * time.Millisecond)
	require.Equal(t, 10*time.Millisecond, p.hold())
	for range 7 {
		p.note(30 * time.Second)
	}
	for range 8 {
		p.note(4 * time.Millisecond)
	}
	require.Equal(t, 8*time.Millisecond, p.hold(), "seven stalls of fifteen do not count")
	p.note(30 * time.Second)
	p.note(30 * time.Second)
	require.Equal(t, 8*time.Millisecond, p.hold(), "they push out old stalls")
	for range 15 {
		p.note(time.Second)
	}
	require.Equal(t, MaxHold, p.hold())
}

// putAtOnce puts parcels as a loop does that no other goroutine interrupts.
func (d *depot) putAtOnce(ns ...int) {
	d.Engine.mu.Lock()
	defer d.Engine.mu.Unlock()
	for _, n := range ns {
		d.enqueueLocked(parcel{n: n, key: uint64(n), size: 10}.entry(), 0, false)
	}
}

func TestWhatComesBeforeABatchBeginsJoinsIt(t *testing.T) {
	for _, row := range []struct {
		name      string
		unordered bool
		ran       [][]int
	}{
		{"in any order", true, [][]int{{1, 2, 3}, {4}}},
		{"not where order matters", false, [][]int{{1}, {2, 3, 4}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			inDepot(t, Config[parcel, int]{Unordered: row.unordered}, func(t *testing.T, d *depot) {
				d.putAtOnce(1, 2, 3, 4)
				d.mustClose()
				require.Equal(t, row.ran, d.ran())
				d.requireEndedOnce(1, 2, 3, 4)
			})
		})
	}
}

func TestNothingJoinsWhatIsTriedAgain(t *testing.T) {
	inDepot(t, Config[parcel, int]{Unordered: true}, func(t *testing.T, d *depot) {
		first := true
		d.judge = func(b *parcelBatch) parcelResult {
			if first {
				first = false
				return parcelResult{Again: []*parcelBatch{b}, Wait: time.Second}
			}
			return parcelResult{Done: b.Items}
		}
		d.put(1)
		time.Sleep(1500 * time.Millisecond) // in the midst of the wait
		d.put(2, 3)
		time.Sleep(time.Minute) // a close would be in a urgent
		require.Equal(t, [][]int{{1}, {1}, {2, 3}}, d.ran())
		d.mustClose()
	})
}

func TestTheRoomOfHalvesIsNotKept(t *testing.T) {
	inDepot(t, Config[parcel, int]{Limits: func() Limits { return Limits{Count: 8, Bytes: 1000} }}, func(t *testing.T, d *depot) {
		d.judge = func(b *parcelBatch) parcelResult {
			half := len(b.Items) / 2
			if half == 0 {
				return parcelResult{Done: b.Items}
			}
			return parcelResult{Again: []*parcelBatch{{Items: b.Items[:half:half]}, {Items: b.Items[half:]}}}
		}
		d.put(1, 2, 3, 4, 5, 6, 7, 8, 9)
		d.mustClose()
		require.Len(t, d.lanes[0].spares, 1, "one for each slot")
	})
}

// rush sends 2,000 parcels a second for a minute, of as many keys, through lanes to a server that takes 5 ms.
type rush struct {
	lanes int
	alone bool // lanes never wait for one another
	stall bool // one lane's first request takes 30 s
}

type rushResult struct {
	requests, perBatch float64 // a second; on average
	median, p99        time.Duration
}

func (r rush) measure(t *testing.T) (result rushResult) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		began := time.Now()
		var waits []time.Duration
		sentAt := map[int]time.Duration{}
		requests, stalled := 0, -1
		cfg := Config[parcel, int]{Lanes: r.lanes, Slots: 1, MaxItems: 10_000, MaxBytes: 64 << 20,
			Limits: func() Limits { return Limits{Count: maxCount, Bytes: 1 << 20} }}
		cfg.Run = func(_ context.Context, b *parcelBatch) parcelResult {
			mu.Lock()
			requests++
			took := 5 * time.Millisecond
			if lane := int(b.Items[0].Item.key) % r.lanes; r.stall && stalled < 0 && time.Since(began) > 10*time.Second {
				stalled, took = lane, 30*time.Second
			}
			mu.Unlock()
			time.Sleep(took)
			return parcelResult{Done: b.Items}
		}
		cfg.Done = func(items []Entry[parcel], _ error) {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range items {
				if int(e.Item.key)%r.lanes != stalled {
					waits = append(waits, time.Since(began)-sentAt[e.Item.n])
				}
			}
		}
		b := New(cfg)
		random := rand.New(rand.NewPCG(1, 2))
		const n = 2000 * 60
		for i := range n {
			time.Sleep(500 * time.Microsecond)
			key := random.Uint64N(1 << 20)
			mu.Lock()
			sentAt[i] = time.Since(began)
			mu.Unlock()
			lane := int(key) % r.lanes
			require.NoError(t, b.Admit(t.Context(), parcel{n: i, key: key, size: 100}.entry(), lane, r.alone, true))
		}
		_, err := b.Close(t.Context())
		require.NoError(t, err)
		slices.Sort(waits)
		result = rushResult{requests: float64(requests) / 60, perBatch: float64(n) / float64(requests),
			median: waits[len(waits)/2], p99: waits[len(waits)*99/100]}
	})
	t.Logf("%+v: %.0f requests/s, %.1f messages/batch, latency median %v, p99 %v", r, result.requests, result.perBatch, result.median, result.p99)
	return result
}

func TestLanesShareRequestsUnderLoad(t *testing.T) {
	t.Parallel() // one of the longest
	one := rush{lanes: 1}.measure(t)
	four := rush{lanes: 4}.measure(t)
	apart := rush{lanes: 4, alone: true}.measure(t)
	require.Greater(t, four.perBatch, 2*apart.perBatch, "fuller requests than lanes that never wait for one another")
	require.Less(t, four.requests, apart.requests/2)
	require.LessOrEqual(t, four.p99, 2*one.p99)
}

func TestAStalledLaneHoldsBackNobody(t *testing.T) {
	require.Less(t, rush{lanes: 4, stall: true}.measure(t).p99, 100*time.Millisecond)
}
