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

func TestAnAdmissionWaitsForRoomFirstComeFirstServed(t *testing.T) {
	withDriver(t, Config[parcel, int]{MaxItems: 2}, func(t *testing.T, d *driver) {
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
		require.Equal(t, (1+2+2+3)*time.Second, d.engine.state.totals.Blocked)
	})
}

// When a large item at the head of the waiters gives up, those behind it that find room must wake.
func TestNoWakeUpIsLostWhenAWaiterGivesUp(t *testing.T) {
	withDriver(t, Config[parcel, int]{MaxItems: 100, MaxBytes: 100}, func(t *testing.T, d *driver) {
		require.NoError(t, d.admit(t.Context(), parcel{n: 1, size: 60}, 0, false, true))
		ctx, cancel := context.WithCancelCause(t.Context())
		large, small := make(chan error, 1), make(chan error, 1)
		go func() { large <- d.admit(ctx, parcel{n: 2, size: 90}, 0, false, true) }()
		synctest.Wait()
		go func() { small <- d.admit(t.Context(), parcel{n: 3, size: 40}, 0, false, true) }()
		synctest.Wait()
		require.Empty(t, small, "a small item does not pass a large one that arrived first")
		cancel(errRefused)
		synctest.Wait()
		require.ErrorIs(t, <-large, errRefused)
		require.Len(t, small, 1, "at once, not when the next batch ends")
		require.NoError(t, <-small)
		d.mustClose()
		d.requireEndedOnce(1, 3)
	})
}

func TestTheBufferKeepsItsBoundsUnderManySendersOfMixedSizes(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 3, MaxItems: 20, MaxBytes: 1000}, func(t *testing.T, d *driver) {
		d.onDone = func(error) {
			d.engine.mu.Lock()
			defer d.engine.mu.Unlock()
			require.LessOrEqual(t, d.engine.state.buffered, 20)
			require.LessOrEqual(t, d.engine.state.bytes, 1000)
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
		require.Zero(t, d.engine.state.bytes)
		require.Zero(t, d.engine.state.buffered)
	})
}

func TestAWaiterIsRefusedWhenOnlyItsCallerCouldMakeRoom(t *testing.T) {
	withDriver(t, Config[parcel, int]{MaxItems: 2}, func(t *testing.T, d *driver) {
		d.fails()
		d.put(1, 2)
		err := d.admit(t.Context(), parcel{n: 3}, 0, false, true) // waits for 1 and 2, which fail
		require.ErrorIs(t, err, ErrFailuresPending)
		require.ErrorIs(t, d.admit(t.Context(), parcel{n: 3}, 0, false, true), ErrFailuresPending)
		d.engine.Release(1, 10)
		d.put(4)
		d.mustClose()
		d.requireEndedOnce(1, 2, 4)
	})
}

// With AsyncRelease an admission waits for the next report. One that a running report may have made is refused.
func TestAWaiterWaitsForAReportThatWillMakeRoom(t *testing.T) {
	withDriver(t, Config[parcel, int]{MaxItems: 1, AsyncRelease: true}, func(t *testing.T, d *driver) {
		d.fails()
		d.put(1)
		early := make(chan error, 1)
		go func() { early <- d.admit(t.Context(), parcel{n: 2}, 0, false, true) }()
		time.Sleep(2 * time.Second)
		require.Empty(t, early, "1 has failed and has not been reported yet")
		end := d.engine.BeginReport(10)
		synctest.Wait()
		require.NoError(t, <-early)
		within := make(chan error, 1) // as if the report itself made it
		go func() { within <- d.admit(t.Context(), parcel{n: 3}, 0, false, true) }()
		time.Sleep(2 * time.Second)
		require.ErrorIs(t, <-within, ErrFailuresPending, "2 has failed as well, and only the next report makes room")
		end()
		after := make(chan error, 1)
		go func() { after <- d.admit(t.Context(), parcel{n: 4}, 0, false, true) }()
		time.Sleep(2 * time.Second)
		require.Empty(t, after)
		d.engine.BeginReport(10)()
		synctest.Wait()
		require.NoError(t, <-after)
		d.mustClose()
	})
}
