package batch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var errRefused = errors.New("refused")

// maxCount is the most messages that the API takes in a request.
const maxCount = 1000

// parcel is an item of a test. Its number is unique.
type parcel struct {
	n    int
	key  uint64
	size int
}

// entry is the parcel as an engine takes it.
func (p parcel) entry() *Entry[parcel] { return &Entry[parcel]{Item: p, Size: p.size, ID: p.key} }

// parcels returns a parcel of 10 bytes for each key, numbered from 0.
func parcels(keys ...uint64) []Entry[parcel] {
	made := make([]Entry[parcel], len(keys))
	for i, key := range keys {
		made[i] = *parcel{n: i, key: key, size: 10}.entry()
	}
	return made
}

func numbers(items []Entry[parcel]) []int {
	ns := make([]int, len(items))
	for i, e := range items {
		ns[i] = e.Item.n
	}
	return ns
}

// driver drives an engine of parcels whose runs take a second each, and records everything.
type driver struct {
	engine *Engine[parcel, int]
	t      *testing.T

	mu     sync.Mutex
	runs   []parcelRun
	ended  map[int]int // how many final results each parcel got
	errs   map[int]error
	result func(b *Batch[parcel, int]) Result[parcel, int] // of a run; nil means that all items succeed
	onDone func(err error)
	onRun  func(b *Batch[parcel, int]) // at the beginning of a run
}

// parcelRun is one attempt at a batch.
type parcelRun struct {
	at      time.Duration
	numbers []int
}

type parcelBatch = Batch[parcel, int]

type parcelResult = Result[parcel, int]

// halves returns both halves of a batch.
func halves(b *parcelBatch) []*parcelBatch {
	left, right := b.Halve()
	return []*parcelBatch{left, right}
}

// withDriver runs a test in virtual time. A goroutine that is left when it returns fails the test.
func withDriver(t *testing.T, cfg Config[parcel, int], test func(t *testing.T, d *driver)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newDriver(t, cfg)) })
}

func newDriver(t *testing.T, cfg Config[parcel, int]) *driver {
	d := &driver{t: t, ended: map[int]int{}, errs: map[int]error{}}
	began := time.Now()
	cfg.Lanes, cfg.Slots = max(1, cfg.Lanes), max(1, cfg.Slots)
	if cfg.Limits == nil {
		cfg.Limits = func(int) Limits { return Limits{Count: 3, Bytes: 1000} }
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 20
	}
	cfg.Run = func(ctx context.Context, b *parcelBatch) parcelResult {
		d.mu.Lock()
		run, result := parcelRun{at: time.Since(began)}, d.result
		for _, e := range b.Items {
			run.numbers = append(run.numbers, e.Item.n)
		}
		d.runs = append(d.runs, run)
		begun := d.onRun
		d.mu.Unlock()
		if begun != nil {
			begun(b)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return parcelResult{Again: []*parcelBatch{b}}
		}
		if result == nil {
			return parcelResult{Done: b.Items}
		}
		return result(b)
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
	d.engine = New(cfg)
	return d
}

// admit admits a parcel.
func (d *driver) admit(ctx context.Context, p parcel, lane int, urgent, wait bool) error {
	return d.engine.Admit(ctx, p.entry(), lane, urgent, wait)
}

// close closes the engine and returns the numbers of the parcels that were left.
func (d *driver) close(ctx context.Context) (left []int, cause error) {
	parcels, cause := d.engine.Close(ctx)
	for _, p := range parcels {
		left = append(left, p.n)
	}
	return left, cause
}

// put admits parcels with these numbers into lane 0. Each has its number as its key, and 10 bytes.
func (d *driver) put(ns ...int) {
	d.t.Helper()
	for _, n := range ns {
		require.NoError(d.t, d.admit(context.Background(), parcel{n: n, key: uint64(n), size: 10}, 0, false, true))
	}
}

// putIn admits one parcel into a lane.
func (d *driver) putIn(lane, n int, key uint64) {
	d.t.Helper()
	require.NoError(d.t, d.admit(context.Background(), parcel{n: n, key: key, size: 10}, lane, false, true))
}

// putAtOnce admits parcels in a loop that no other goroutine interrupts.
func (d *driver) putAtOnce(ns ...int) {
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	for _, n := range ns {
		if d.engine.state.enqueue(parcel{n: n, key: uint64(n), size: 10}.entry(), 0, false) {
			d.engine.dispatchLocked()
		}
	}
}

// fails makes every batch fail.
func (d *driver) fails() {
	d.result = func(b *parcelBatch) parcelResult { return parcelResult{Failed: b.Items, Err: errRefused} }
}

// ran returns the numbers of the parcels in each run.
func (d *driver) ran() [][]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all [][]int
	for _, r := range d.runs {
		all = append(all, r.numbers)
	}
	return all
}

// times returns when each run began.
func (d *driver) times() []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []time.Duration
	for _, r := range d.runs {
		all = append(all, r.at)
	}
	return all
}

// endedInOrder returns the parcels in the order of their last runs.
func (d *driver) endedInOrder() []int {
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

// requireEndedOnce requires that exactly these parcels got a final result, each once.
func (d *driver) requireEndedOnce(ns ...int) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	require.ElementsMatch(d.t, ns, slices.Collect(maps.Keys(d.ended)))
	for n, times := range d.ended {
		require.Equal(d.t, 1, times, "parcel %d", n)
	}
}

func (d *driver) mustClose() {
	d.t.Helper()
	left, err := d.close(context.Background())
	require.NoError(d.t, err)
	require.Empty(d.t, left)
}

// mustCloseLater closes after an hour, because Close makes everything urgent.
func (d *driver) mustCloseLater(t *testing.T) {
	t.Helper()
	time.Sleep(time.Hour)
	d.mustClose()
}

// endedCtx returns a ctx that has ended.
func endedCtx() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
