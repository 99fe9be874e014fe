package batch

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCloseInEveryState(t *testing.T) {
	retry := func(b *parcelBatch) parcelResult { return parcelResult{Again: []*parcelBatch{b}, Wait: time.Minute} }
	for _, row := range []struct {
		name  string
		cfg   Config[parcel, int]
		begin func(d *driver)
		ctx   time.Duration // how long Close may take; 0 means that ctx has ended before
		left  []int
		ended []int
		took  time.Duration
	}{
		{"idle", Config[parcel, int]{}, func(*driver) {}, time.Hour, nil, nil, 0},
		{"idle, ctx ended", Config[parcel, int]{}, func(*driver) {}, 0, nil, nil, 0},
		{"idle after work", Config[parcel, int]{}, func(d *driver) { d.put(1); _ = d.engine.Flush(context.Background()) }, 0, nil, []int{1}, 0},
		{"pending", Config[parcel, int]{Linger: 24 * time.Hour}, func(d *driver) { d.put(1, 2) }, time.Hour, nil, []int{1, 2}, time.Second},
		{"pending, ctx ended", Config[parcel, int]{Linger: 24 * time.Hour}, func(d *driver) { d.put(1, 2) }, 0, []int{1, 2}, []int{1, 2}, 0},
		{"in flight", Config[parcel, int]{}, func(d *driver) { d.put(1); synctest.Wait(); d.put(2) }, time.Hour, nil, []int{1, 2}, 2 * time.Second},
		{"in flight, ctx ends first", Config[parcel, int]{}, func(d *driver) { d.put(1); synctest.Wait(); d.put(2) }, time.Millisecond, []int{1, 2}, []int{1, 2}, time.Millisecond},
		{"failing for good", Config[parcel, int]{}, func(d *driver) { d.fails(); d.put(1, 2) }, time.Hour, nil, []int{1, 2}, 2 * time.Second},
		{"failing and retrying", Config[parcel, int]{}, func(d *driver) { d.result = retry; d.put(1, 2) }, time.Hour, []int{1, 2}, []int{1, 2}, time.Hour},
		{"in backoff, ctx ended", Config[parcel, int]{}, func(d *driver) { d.result = retry; d.put(1); time.Sleep(2 * time.Second) }, 0, []int{1}, []int{1}, 0},
		{"suspended", Config[parcel, int]{}, func(d *driver) { d.put(1, 2); d.engine.Suspend(errRefused) }, time.Hour, []int{2}, []int{1, 2}, time.Hour},
		{"a candidate", Config[parcel, int]{}, func(d *driver) {
			d.result = func(b *parcelBatch) parcelResult {
				return parcelResult{Again: []*parcelBatch{b}, Aside: true, Wait: time.Minute}
			}
			d.put(1)
			synctest.Wait()
			d.put(2)
		}, time.Hour, []int{1, 2}, []int{1, 2}, time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			withDriver(t, row.cfg, func(t *testing.T, d *driver) {
				row.begin(d)
				ctx, cancel := context.WithTimeout(t.Context(), row.ctx)
				defer cancel()
				began := time.Now()
				left, err := d.close(ctx)
				require.Equal(t, row.took, time.Since(began))
				require.ElementsMatch(t, row.left, left)
				if len(row.left) > 0 {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				} else {
					require.NoError(t, err)
				}
				d.requireEndedOnce(row.ended...)
				again, sameErr := d.close(endedCtx())
				require.Equal(t, left, again, "every call returns the same")
				require.Equal(t, err, sameErr)
				d.requireEndedOnce(row.ended...)
				require.ErrorIs(t, d.admit(t.Context(), parcel{}, 0, false, true), ErrClosed)
				runs := d.ran()
				time.Sleep(24 * time.Hour)
				require.Equal(t, runs, d.ran(), "nothing runs after Close")
			})
		})
	}
}

func TestTheFirstCtxThatEndsEndsEveryClose(t *testing.T) {
	withDriver(t, Config[parcel, int]{}, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult { return parcelResult{Again: []*parcelBatch{b}, Wait: time.Minute} }
		d.put(1)
		began := time.Now()
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(5-i)*time.Hour)
				defer cancel()
				left, err := d.close(ctx)
				require.Equal(t, []int{1}, left)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, time.Hour, time.Since(began))
			})
		}
		all.Wait()
		d.requireEndedOnce(1)
	})
}

func TestCloseRefusesWaitersAndEndsFlushes(t *testing.T) {
	withDriver(t, Config[parcel, int]{MaxItems: 2}, func(t *testing.T, d *driver) {
		d.result = func(b *parcelBatch) parcelResult { return parcelResult{Again: []*parcelBatch{b}, Wait: time.Minute} }
		d.put(1, 2)
		sent, flushed := make(chan error, 1), make(chan error, 1)
		go func() { sent <- d.admit(t.Context(), parcel{n: 3}, 0, false, true) }()
		go func() { flushed <- d.engine.Flush(t.Context()) }()
		synctest.Wait()
		left, _ := d.close(endedCtx())
		require.Equal(t, []int{1, 2}, left)
		require.ErrorIs(t, <-sent, ErrClosed)
		require.ErrorIs(t, <-flushed, ErrClosed)
		require.ErrorIs(t, d.engine.Flush(t.Context()), ErrClosed)
	})
}

func TestABatchThatSucceedsDuringCloseIsNotLeft(t *testing.T) {
	withDriver(t, Config[parcel, int]{}, func(t *testing.T, d *driver) {
		d.put(1)
		synctest.Wait()
		d.put(2)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		left, err := d.close(ctx)
		require.Equal(t, []int{2}, left)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, d.errs[1])
		require.ErrorIs(t, d.errs[2], ErrClosed)
		require.Equal(t, Totals{Admitted: 2, Done: 1}, d.engine.state.totals)
	})
}
