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

var errRefused = errors.New("refused")

// depot is a batcher of parcels that takes a second for each batch and notes everything.
type depot struct {
	*Engine[parcel, int]
	t *testing.T

	mu     sync.Mutex
	runs   []parcelRun
	ended  map[int]int // how often each parcel completed
	errs   map[int]error
	judge  func(b *Batch[parcel, int]) Result[parcel, int] // default: all done
	onDone func(err error)
}

// parcelRun is one attempt at a batch.
type parcelRun struct {
	at      time.Duration
	numbers []int
}

type parcelBatch = Batch[parcel, int]
type parcelResult = Result[parcel, int]

// inDepot runs a promise in virtual time; a goroutine that is left when it returns fails the test.
func inDepot(t *testing.T, cfg Config[parcel, int], promise func(t *testing.T, d *depot)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { promise(t, newDepot(t, cfg)) })
}

func newDepot(t *testing.T, cfg Config[parcel, int]) *depot {
	d := &depot{t: t, ended: map[int]int{}, errs: map[int]error{}}
	began := time.Now()
	cfg.Lanes, cfg.Slots = max(1, cfg.Lanes), max(1, cfg.Slots)
	if cfg.Limits == nil {
		cfg.Limits = func() Limits { return Limits{Count: 3, Bytes: 1000} }
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 20
	}
	cfg.Run = func(ctx context.Context, b *parcelBatch) parcelResult {
		d.mu.Lock()
		run, judge := parcelRun{at: time.Since(began)}, d.judge
		for _, e := range b.Items {
			run.numbers = append(run.numbers, e.Item.n)
		}
		d.runs = append(d.runs, run)
		d.mu.Unlock()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return parcelResult{Again: []*parcelBatch{b}}
		}
		if judge == nil {
			return parcelResult{Done: b.Items}
		}
		return judge(b)
	}
	cfg.Done = func(items []Entry[parcel], err error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, e := range items {
			d.ended[e.Item.n]++
			d.errs[e.Item.n] = err
		}
		if d.onDone != nil {
			d.onDone(err)
		}
	}
	d.Engine = New(cfg)
	return d
}

// admit hands a parcel over.
func (d *depot) admit(ctx context.Context, p parcel, lane int, urgent, wait bool) error {
	return d.Engine.Admit(ctx, p.entry(), lane, urgent, wait)
}

// close closes and tells the numbers of what was left.
func (d *depot) close(ctx context.Context) (left []int, cause error) {
	parcels, cause := d.Engine.Close(ctx)
	for _, p := range parcels {
		left = append(left, p.n)
	}
	return left, cause
}

// put admits parcels with these numbers into lane 0; each has its number as its key, and 10 bytes.
func (d *depot) put(ns ...int) {
	d.t.Helper()
	for _, n := range ns {
		require.NoError(d.t, d.admit(context.Background(), parcel{n: n, key: uint64(n), size: 10}, 0, false, true))
	}
}

// fails lets every batch fail.
func (d *depot) fails() {
	d.judge = func(b *parcelBatch) parcelResult { return parcelResult{Failed: b.Items, Err: errRefused} }
}

func (d *depot) ran() [][]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all [][]int
	for _, r := range d.runs {
		all = append(all, r.numbers)
	}
	return all
}

// times is when the runs began.
func (d *depot) times() []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []time.Duration
	for _, r := range d.runs {
		all = append(all, r.at)
	}
	return all
}

// requireEndedOnce requires that exactly these parcels completed, each once.
func (d *depot) requireEndedOnce(ns ...int) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	require.ElementsMatch(d.t, ns, slices.Collect(maps.Keys(d.ended)))
	for n, times := range d.ended {
		require.Equal(d.t, 1, times, "parcel %d", n)
	}
}

func (d *depot) mustClose() {
	d.t.Helper()
	left, err := d.close(context.Background())
	require.NoError(d.t, err)
	require.Empty(d.t, left)
}

// endedCtx is a ctx that has ended.
func endedCtx() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestTheFirstItemLeavesAtOnceAndTheNextBatchGathers(t *testing.T) {
	inDepot(t, Config[parcel, int]{}, func(t *testing.T, d *depot) {
		d.put(1)
		synctest.Wait()
		d.put(2, 3, 4, 5)
		require.NoError(t, d.Flush(context.Background()))
		require.Equal(t, [][]int{{1}, {2, 3, 4}, {5}}, d.ran())
		d.requireEndedOnce(1, 2, 3, 4, 5)
		// Not closed: an idle batcher has no goroutine that would fail this test.
	})
}

func TestAnAdmissionWaitsForRoomFirstComeFirstServed(t *testing.T) {
	inDepot(t, Config[parcel, int]{MaxItems: 2}, func(t *testing.T, d *depot) {
		d.put(1, 2)
		var order []int
		var all sync.WaitGroup
		for n := 3; n <= 6; n++ {
			all.Go(func() {
				d.put(n)
				d.mu.Lock()
				defer d.mu.Unlock()
				order = append(order, n)
			})
			synctest.Wait()
		}
		require.ErrorIs(t, d.admit(context.Background(), parcel{n: 7}, 0, false, false), ErrBufferFull)
		all.Wait()
		d.mustClose()
		require.Equal(t, []int{1, 2, 3, 4, 5, 6}, slices.Concat(d.ran()...))
		require.ElementsMatch(t, []int{3, 4, 5, 6}, order)
		// 3 waits for the first run, 4 and 5 for the second, 6 for the third.
		require.Equal(t, (1+2+2+3)*time.Second, d.totals.Blocked)
	})
}

// A large item at the head of the waiters must not leave those behind it asleep when it goes away.
func TestNoWakeUpIsLostWhenAWaiterGivesUp(t *testing.T) {
	inDepot(t, Config[parcel, int]{MaxItems: 100, MaxBytes: 100}, func(t *testing.T, d *depot) {
		require.NoError(t, d.admit(t.Context(), parcel{n: 1, size: 60}, 0, false, true))
		ctx, cancel := context.WithCancelCause(t.Context())
		large, small := make(chan error, 1), make(chan error, 1)
		go func() { large <- d.admit(ctx, parcel{n: 2, size: 90}, 0, false, true) }()
		synctest.Wait()
		go func() { small <- d.admit(t.Context(), parcel{n: 3, size: 40}, 0, false, true) }()
		synctest.Wait()
		require.Empty(t, small, "a small item does not pass a large one that came first")
		cancel(errRefused)
		synctest.Wait()
		require.ErrorIs(t, <-large, errRefused)
		require.Len(t, small, 1, "at once, not when the next batch ends")
		require.NoError(t, <-small)
		d.mustClose()
		d.requireEndedOnce(1, 3)
	})
}

func TestLimitsHoldUnderManySendersOfMixedSizes(t *testing.T) {
	inDepot(t, Config[parcel, int]{Lanes: 3, MaxItems: 20, MaxBytes: 1000}, func(t *testing.T, d *depot) {
		d.onDone = func(error) {
			d.Engine.mu.Lock()
			defer d.Engine.mu.Unlock()
			require.LessOrEqual(t, d.buffered, 20)
			require.LessOrEqual(t, d.bytes, 1000)
		}
		const senders, each = 30, 40
		var all sync.WaitGroup
		gaveUp := make([]int, senders)
		for s := range senders {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(s), 1))
				for i := range each {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(20))*time.Second)
					it := parcel{n: s*each + i, size: 1 + r.IntN(1000)}
					if err := d.admit(ctx, it, r.IntN(3), false, true); err != nil {
						require.ErrorIs(t, err, context.DeadlineExceeded)
						gaveUp[s]++
					}
					cancel()
				}
			})
		}
		all.Wait()
		d.mustClose()
		given := 0
		for _, n := range gaveUp {
			given += n
		}
		require.Positive(t, given)
		require.Equal(t, senders*each-given, len(d.ended))
		require.Zero(t, d.bytes)
		require.Zero(t, d.buffered)
	})
}

func TestAWaiterIsRefusedWhenNothingCanMakeRoomButItself(t *testing.T) {
	inDepot(t, Config[parcel, int]{MaxItems: 2}, func(t *testing.T, d *depot) {
		d.fails()
		d.put(1, 2)
		err := d.admit(t.Context(), parcel{n: 3}, 0, false, true) // waits for 1 and 2, which fail
		require.ErrorIs(t, err, ErrFailuresPending)
		require.ErrorIs(t, d.admit(t.Context(), parcel{n: 3}, 0, false, true), ErrFailuresPending)
		d.Release(1, 10)
		d.put(4)
		d.mustClose()
		d.requireEndedOnce(1, 2, 4)
	})
}

// With somebody who releases, an admission waits for that; only what the release itself may be waiting for is refused.
func TestAWaiterWaitsForAReportThatWillMakeRoom(t *testing.T) {
	inDepot(t, Config[parcel, int]{MaxItems: 1, AsyncRelease: true}, func(t *testing.T, d *depot) {
		d.fails()
		d.put(1)
		early := make(chan error, 1)
		go func() { early <- d.admit(t.Context(), parcel{n: 2}, 0, false, true) }()
		time.Sleep(2 * time.Second)
		require.Empty(t, early, "1 has failed and nobody has been told yet")
		over := d.BeginReport(10)
		synctest.Wait()
		require.NoError(t, <-early)
		within := make(chan error, 1) // as if the report itself did it
		go func() { within <- d.admit(t.Context(), parcel{n: 3}, 0, false, true) }()
		time.Sleep(2 * time.Second)
		require.ErrorIs(t, <-within, ErrFailuresPending, "2 has failed as well, and only the next report makes room")
		over()
		after := make(chan error, 1)
		go func() { after <- d.admit(t.Context(), parcel{n: 4}, 0, false, true) }()
		time.Sleep(2 * time.Second)
		require.Empty(t, after)
		d.BeginReport(10)()
		synctest.Wait()
		require.NoError(t, <-after)
		d.mustClose()
	})
}

func TestHaltSendsWaitersAwayAndHoldsEverythingBack(t *testing.T) {
	inDepot(t, Config[parcel, int]{MaxItems: 2}, func(t *testing.T, d *depot) {
		d.put(1, 2)
		waiting := make(chan error, 1)
		go func() { waiting <- d.admit(t.Context(), parcel{n: 3}, 0, false, true) }()
		synctest.Wait()
		d.Suspend(errRefused)
		require.ErrorIs(t, <-waiting, errRefused)
		require.ErrorIs(t, d.admit(t.Context(), parcel{n: 3}, 0, false, true), errRefused)
		time.Sleep(time.Hour)
		require.Equal(t, [][]int{{1}}, d.ran(), "only what was on its way")
		d.Resume()
		d.put(3)
		d.mustClose()
		d.requireEndedOnce(1, 2, 3)
	})
}

func TestALingerDelaysOnlyWhatIsInNoHurry(t *testing.T) {
	full := func() Limits { return Limits{Count: 3, Bytes: 1000, Overhead: 10} }
	for _, row := range []struct {
		name string
		cfg  Config[parcel, int]
		do   func(t *testing.T, d *depot)
		at   time.Duration
	}{
		{"one item", Config[parcel, int]{}, func(_ *testing.T, d *depot) { d.put(1) }, time.Hour},
		{"a full batch", Config[parcel, int]{}, func(_ *testing.T, d *depot) { d.put(1, 2, 3) }, 0},
		{"a batch that is full by bytes and overhead", Config[parcel, int]{}, func(t *testing.T, d *depot) {
			require.NoError(t, d.admit(t.Context(), parcel{n: 1, size: 500}, 0, false, true))
			require.NoError(t, d.admit(t.Context(), parcel{n: 2, size: 490}, 0, false, true))
		}, 0},
		{"an item in a urgent", Config[parcel, int]{}, func(t *testing.T, d *depot) {
			d.put(1)
			require.NoError(t, d.admit(t.Context(), parcel{n: 2}, 0, true, true))
		}, 0},
		{"somebody who asks", Config[parcel, int]{}, func(_ *testing.T, d *depot) { d.put(1); d.FlushLane(0) }, 0},
		{"a flush", Config[parcel, int]{}, func(t *testing.T, d *depot) {
			d.put(1)
			require.ErrorIs(t, d.Flush(endedCtx()), context.Canceled)
		}, 0},
		{"a buffer full of items", Config[parcel, int]{MaxItems: 2}, func(_ *testing.T, d *depot) { d.put(1, 2) }, 0},
		{"a buffer full of bytes, found by a waiter", Config[parcel, int]{MaxItems: 9, MaxBytes: 15}, func(t *testing.T, d *depot) {
			d.put(1)
			go d.put(2)
		}, 0},
		{"a buffer full of bytes, found by one that does not wait", Config[parcel, int]{MaxItems: 9, MaxBytes: 15}, func(t *testing.T, d *depot) {
			d.put(1)
			require.ErrorIs(t, d.admit(t.Context(), parcel{n: 2, size: 10}, 0, false, false), ErrBufferFull)
		}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.cfg.Linger, row.cfg.Limits = time.Hour, full
			inDepot(t, row.cfg, func(t *testing.T, d *depot) {
				row.do(t, d)
				time.Sleep(2 * time.Hour)
				d.mustClose()
				require.Equal(t, row.at, d.times()[0])
			})
		})
	}
}

func TestAFlushWaitsForWhatCameBeforeItAlone(t *testing.T) {
	inDepot(t, Config[parcel, int]{}, func(t *testing.T, d *depot) {
		require.NoError(t, d.Flush(endedCtx()), "nothing to wait for")
		began := time.Now()
		d.put(1, 2, 3, 4)
		flushed := make(chan time.Duration, 2)
		go func() { _ = d.Flush(t.Context()); flushed <- time.Since(began) }()
		synctest.Wait()
		d.put(5, 6, 7, 8)
		_ = d.Flush(t.Context())
		require.Equal(t, 2*time.Second, <-flushed)
		require.Equal(t, 4*time.Second, time.Since(began)) // {1} {2 3 4} {5 6 7} {8}
		d.mustClose()
	})
}

func TestFlushesThatGiveUpLeaveNothingBehind(t *testing.T) {
	inDepot(t, Config[parcel, int]{}, func(t *testing.T, d *depot) {
		d.put(1, 2)
		for range 100 {
			require.ErrorIs(t, d.Flush(endedCtx()), context.Canceled)
		}
		require.Equal(t, 2, d.epochCount())
		require.NoError(t, d.Flush(t.Context()))
		require.Equal(t, 1, d.epochCount())
		d.mustClose()
	})
}

func (d *depot) epochCount() int {
	d.Engine.mu.Lock()
	defer d.Engine.mu.Unlock()
	return len(d.epochs)
}

func TestNoNumberEndsTwiceOrNever(t *testing.T) {
	for seed := range uint64(25) {
		inDepot(t, Config[parcel, int]{Lanes: 3, MaxItems: 60, Limits: func() Limits {
			return Limits{Count: 7, Bytes: 200, Overhead: 5, Distinct: seed%2 == 0}
		}}, func(t *testing.T, d *depot) { chaos(t, d, seed) })
	}
}

// chaos sends from many goroutines into a depot that hands back, halves, requeues, gets candidate and fails at random, and
// closes it at some random moment.
func chaos(t *testing.T, d *depot, seed uint64) {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 2))
	random := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n)
	}
	last := map[uint64]int{} // by key: the parcels of one end in their order
	d.judge = func(b *parcelBatch) parcelResult {
		wait := time.Duration(random(3)) * time.Second
		half := len(b.Items) / 2
		switch what := random(10); {
		case what == 0:
			return parcelResult{Again: []*parcelBatch{b}, Wait: wait}
		case what == 1 && half > 0:
			return parcelResult{Again: []*parcelBatch{{Items: b.Items[:half:half]}, {Items: b.Items[half:]}}, Wait: wait}
		case what == 2:
			return parcelResult{Requeue: b.Items, Wait: wait}
		case what == 3 && len(b.Items) == 1 && b.Items[0].Item.key != 0:
			return parcelResult{Candidate: b, Wait: wait}
		case what == 4:
			noteOrder(t, &mu, last, b.Items)
			return parcelResult{Failed: b.Items, Err: errRefused}
		case what == 5:
			noteOrder(t, &mu, last, b.Items[:half])
			return parcelResult{Failed: b.Items[:half], Err: errRefused, Requeue: b.Items[half:]}
		}
		noteOrder(t, &mu, last, b.Items)
		return parcelResult{Done: b.Items}
	}
	d.onDone = func(err error) {
		if errors.Is(err, errRefused) {
			go d.Release(0, 0) // beside everything else
		}
	}
	accepted := make([]map[int]bool, 8)
	var all sync.WaitGroup
	for s := range accepted {
		accepted[s] = map[int]bool{}
		all.Go(func() {
			for i := range 60 {
				key := uint64(random(12)) + 12*uint64(s)
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random(30))*time.Second)
				n := s*1000 + i
				if d.admit(ctx, parcel{n: n, key: key, size: 1 + random(80)}, int(key%3), random(5) == 0, random(4) > 0) == nil {
					accepted[s][n] = true
				}
				if random(20) == 0 {
					_ = d.Flush(ctx)
				}
				cancel()
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random(400))*time.Second)
	defer cancel()
	time.Sleep(time.Duration(random(200)) * time.Second)
	left, _ := d.close(ctx)
	all.Wait()
	for _, n := range left {
		require.ErrorIs(t, d.errs[n], ErrClosed)
	}
	want := []int{}
	for _, ns := range accepted {
		want = slices.AppendSeq(want, maps.Keys(ns))
	}
	d.requireEndedOnce(want...)
	require.Equal(t, d.totals.Admitted, d.totals.Done+d.totals.Failed+uint64(d.live))
	require.Equal(t, len(left), d.live)
}

func noteOrder(t *testing.T, mu *sync.Mutex, last map[uint64]int, items []Entry[parcel]) {
	mu.Lock()
	defer mu.Unlock()
	for _, e := range items {
		if k := e.Item.key; k != 0 {
			require.Greater(t, e.Item.n, last[k]-1, "key %d", k)
			last[k] = e.Item.n + 1
		}
	}
}
