package batch

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheFirstItemLeavesAtOnceAndTheNextBatchFillsMeanwhile(t *testing.T) {
	withDriver(t, Config[parcel, int]{}, func(t *testing.T, d *driver) {
		d.put(1)
		synctest.Wait()
		d.put(2, 3, 4, 5)
		require.NoError(t, d.engine.Flush(context.Background()))
		require.Equal(t, [][]int{{1}, {2, 3, 4}, {5}}, d.ran())
		d.requireEndedOnce(1, 2, 3, 4, 5)
		// It is not closed: an idle engine has no goroutine that would fail this test.
	})
}

func TestALingerDelaysOnlyWhatIsNotUrgent(t *testing.T) {
	full := func(int) Limits { return Limits{Count: 3, Bytes: 1000, Overhead: 10} }
	for _, row := range []struct {
		name string
		cfg  Config[parcel, int]
		do   func(t *testing.T, d *driver)
		at   time.Duration
	}{
		{"one item", Config[parcel, int]{}, func(_ *testing.T, d *driver) { d.put(1) }, time.Hour},
		{"a full batch", Config[parcel, int]{}, func(_ *testing.T, d *driver) { d.put(1, 2, 3) }, 0},
		{"a batch that is full by bytes and overhead", Config[parcel, int]{}, func(t *testing.T, d *driver) {
			require.NoError(t, d.admit(t.Context(), parcel{n: 1, size: 500}, 0, false, true))
			require.NoError(t, d.admit(t.Context(), parcel{n: 2, size: 490}, 0, false, true))
		}, 0},
		{"an urgent item", Config[parcel, int]{}, func(t *testing.T, d *driver) {
			d.put(1)
			require.NoError(t, d.admit(t.Context(), parcel{n: 2}, 0, true, true))
		}, 0},
		{"a flush of the lane", Config[parcel, int]{}, func(_ *testing.T, d *driver) { d.put(1); d.engine.FlushLane(0) }, 0},
		{"a flush", Config[parcel, int]{}, func(t *testing.T, d *driver) {
			d.put(1)
			require.ErrorIs(t, d.engine.Flush(endedCtx()), context.Canceled)
		}, 0},
		{"a buffer full of items", Config[parcel, int]{MaxItems: 2}, func(_ *testing.T, d *driver) { d.put(1, 2) }, 0},
		{"a buffer full of bytes, and an admission that waits", Config[parcel, int]{MaxItems: 9, MaxBytes: 15}, func(t *testing.T, d *driver) {
			d.put(1)
			go d.put(2)
		}, 0},
		{"a buffer full of bytes, and an admission that does not wait", Config[parcel, int]{MaxItems: 9, MaxBytes: 15}, func(t *testing.T, d *driver) {
			d.put(1)
			require.ErrorIs(t, d.admit(t.Context(), parcel{n: 2, size: 10}, 0, false, false), ErrBufferFull)
		}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.cfg.Linger, row.cfg.Limits = time.Hour, full
			withDriver(t, row.cfg, func(t *testing.T, d *driver) {
				row.do(t, d)
				time.Sleep(2 * time.Hour)
				d.mustClose()
				require.Equal(t, row.at, d.times()[0])
			})
		})
	}
}

func TestSuspendRefusesWaitersAndLetsNothingLeave(t *testing.T) {
	withDriver(t, Config[parcel, int]{MaxItems: 2}, func(t *testing.T, d *driver) {
		d.put(1, 2)
		waiting := make(chan error, 1)
		go func() { waiting <- d.admit(t.Context(), parcel{n: 3}, 0, false, true) }()
		synctest.Wait()
		d.engine.Suspend(errRefused)
		require.ErrorIs(t, <-waiting, errRefused)
		require.ErrorIs(t, d.admit(t.Context(), parcel{n: 3}, 0, false, true), errRefused)
		time.Sleep(time.Hour)
		require.Equal(t, [][]int{{1}}, d.ran(), "only what was in flight")
		d.engine.Resume()
		d.put(3)
		d.mustClose()
		d.requireEndedOnce(1, 2, 3)
	})
}

// Dropped items leave the queue and the batches that wait for a retry. The rest runs without them.
func TestDropFailsUnwantedItemsWhereverTheyWait(t *testing.T) {
	withDriver(t, Config[parcel, int]{Linger: time.Minute}, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult { return parcelResult{Again: []*parcelBatch{b}, Wait: time.Hour} }
		d.put(2, 3, 5) // a full batch, which waits for a retry
		time.Sleep(2 * time.Second)
		d.put(4, 7)
		d.engine.Drop(func(p *parcel) bool { return p.n > 2 && p.n != 4 }, errRefused)
		for n, want := range map[int]int{2: 0, 3: 1, 4: 0, 5: 1, 7: 1} {
			require.Equal(t, want, d.ended[n], "parcel %d", n)
		}
		require.Equal(t, 2, d.engine.state.live)
		l := d.engine.state.lanes[0]
		d.mu.Lock()
		d.result = nil
		d.mu.Unlock()
		time.Sleep(2 * time.Hour)
		d.requireEndedOnce(2, 3, 4, 5, 7)
		require.NoError(t, errors.Join(d.errs[2], d.errs[4]))
		require.Zero(t, l.queue.bytes)
	})
}

func TestEveryItemGetsOneFinalResult(t *testing.T) {
	for seed := range uint64(25) {
		withDriver(t, Config[parcel, int]{Lanes: 3, MaxItems: 60, Limits: func(int) Limits {
			return Limits{Count: 7, Bytes: 200, Overhead: 5, Distinct: seed%2 == 0}
		}}, func(t *testing.T, d *driver) { newChaos(t, d, seed).run() })
	}
}

// chaos is a run with random results, admissions, flushes and a Close at a random moment.
type chaos struct {
	t *testing.T
	d *driver

	mu     sync.Mutex
	source *rand.Rand
	last   map[uint64]int // by key, 1 + the number of the last parcel with a final result

	ended func(b *parcelBatch) // optional; at the end of each run
	wait  func()               // optional; waits for what runs beside the engine
}

func newChaos(t *testing.T, d *driver, seed uint64) *chaos {
	return &chaos{t: t, d: d, source: rand.New(rand.NewPCG(seed, 2)), last: map[uint64]int{}}
}

func (c *chaos) random(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.source.IntN(n)
}

func (c *chaos) run() {
	t, d := c.t, c.d
	d.result = c.result
	d.onDone = func(err error) {
		if errors.Is(err, errRefused) {
			go d.engine.Release(0, 0) // concurrently with everything else
		}
	}
	accepted := make([]map[int]bool, 8)
	var all sync.WaitGroup
	for sender := range accepted {
		accepted[sender] = map[int]bool{}
		all.Go(func() { c.send(sender, accepted[sender]) })
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.random(400))*time.Second)
	defer cancel()
	time.Sleep(time.Duration(c.random(200)) * time.Second)
	left, _ := d.close(ctx)
	all.Wait()
	if c.wait != nil {
		c.wait()
	}
	for _, n := range left {
		require.ErrorIs(t, d.errs[n], ErrClosed)
	}
	want := []int{}
	for _, ns := range accepted {
		want = slices.AppendSeq(want, maps.Keys(ns))
	}
	d.requireEndedOnce(want...)
	stats := d.engine.Stats()
	require.Equal(t, stats.Admitted, stats.Done+stats.Failed+uint64(stats.Live))
	require.Equal(t, len(left), stats.Live)
}

// send admits parcels of keys that no other sender uses.
func (c *chaos) send(sender int, accepted map[int]bool) {
	for i := range 60 {
		key := uint64(c.random(12)) + 12*uint64(sender)
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.random(30))*time.Second)
		n := sender*1000 + i
		if c.d.admit(ctx, parcel{n: n, key: key, size: 1 + c.random(80)}, c.d.engine.Lane(key), c.random(5) == 0, c.random(4) > 0) == nil {
			accepted[n] = true
		}
		if c.random(20) == 0 {
			_ = c.d.engine.Flush(ctx)
		}
		cancel()
	}
}

// result retries or halves a batch, makes it a candidate, or fails it, at random.
func (c *chaos) result(b *parcelBatch) parcelResult {
	if c.ended != nil {
		c.ended(b)
	}
	wait := time.Duration(c.random(3)) * time.Second
	half := len(b.Items) / 2
	switch what := c.random(10); {
	case what == 0:
		return parcelResult{Again: []*parcelBatch{b}, Wait: wait}
	case what == 1 && half > 0:
		return parcelResult{Again: halves(b), Wait: wait}
	case what == 2:
		return parcelResult{Again: []*parcelBatch{b}, Aside: true, Wait: wait}
	case what == 3 && half > 0:
		return parcelResult{Again: halves(b), Aside: true, Wait: wait}
	case what == 4:
		c.requireOrder(b.Items)
		return parcelResult{Failed: b.Items, Err: errRefused}
	case what == 5:
		c.requireOrder(b.Items[:half])
		return parcelResult{Failed: b.Items[:half], Err: errRefused, Again: []*parcelBatch{{Items: b.Items[half:]}}}
	}
	c.requireOrder(b.Items)
	return parcelResult{Done: b.Items}
}

// requireOrder requires that the parcels of each key get their final results in the order of their admission.
func (c *chaos) requireOrder(items []Entry[parcel]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range items {
		if k := e.Item.key; k != 0 {
			require.Greater(c.t, e.Item.n, c.last[k]-1, "key %d", k)
			c.last[k] = e.Item.n + 1
		}
	}
}
