package background

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAQueueRunsItsFunctionsOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		var order []int
		for i := range 10 {
			require.True(t, q.Add(func() {
				time.Sleep(time.Second)
				order = append(order, i)
			}, 0))
		}
		began := time.Now()
		q.Await(t.Context())
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, order)
		require.Equal(t, 10*time.Second, time.Since(began))
		q.Await(t.Context())
	})
}

func TestAQueueDropsWhatIsAboveItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		gate, ran := make(chan struct{}), 0
		require.True(t, q.Add(func() { <-gate }, 2))
		synctest.Wait() // it runs, and waits no more
		for i := range 5 {
			require.Equal(t, i < 2, q.Add(func() { ran++ }, 2))
		}
		close(gate)
		q.Await(t.Context())
		require.Equal(t, 2, ran)
		require.True(t, q.Add(func() { ran++ }, 2))
		q.Await(t.Context())
		require.Equal(t, 3, ran)
	})
}

func TestAFunctionThatEndsItsGoroutineDoesNotStopItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		ran := false
		q.Add(runtime.Goexit, 0)
		q.Add(func() { ran = true }, 0)
		q.Await(t.Context())
		require.True(t, ran)
	})
}

func TestAwaitEndsWithItsCtx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		var g Group
		gate := make(chan struct{})
		q.Add(func() { <-gate }, 0)
		g.Go(func() { <-gate })
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		q.Await(ctx)
		g.Await(ctx, 1)
		require.Equal(t, time.Second, time.Since(began))
		close(gate)
		q.Await(t.Context())
		g.Await(t.Context(), 1)
	})
}

func TestAGroupLetsItsOwnerWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		for i := range 5 {
			g.Go(func() {
				defer runtime.Goexit()
				time.Sleep(time.Duration(i+1) * time.Second)
			})
		}
		began := time.Now()
		for _, row := range []struct {
			limit int
			want  time.Duration
		}{{6, 0}, {5, time.Second}, {2, 4 * time.Second}, {1, 5 * time.Second}} {
			g.Await(t.Context(), row.limit)
			require.Equal(t, row.want, time.Since(began), "until fewer than %d run", row.limit)
		}
	})
}
