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

// rush admits 2,000 parcels a second, of random keys, for a minute. The server takes 5 ms for a request.
type rush struct {
	lanes int
	alone bool // lanes never wait for one another: each parcel is urgent
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
			Limits: func(int) Limits { return Limits{Count: maxCount, Bytes: 1 << 20} }}
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
		e := New(cfg)
		random := rand.New(rand.NewPCG(1, 2))
		const n = 2000 * 60
		for i := range n {
			time.Sleep(500 * time.Microsecond)
			key := random.Uint64N(1 << 20)
			mu.Lock()
			sentAt[i] = time.Since(began)
			mu.Unlock()
			lane := int(key) % r.lanes
			require.NoError(t, e.Admit(t.Context(), parcel{n: i, key: key, size: 100}.entry(), lane, r.alone, true))
		}
		_, err := e.Close(t.Context())
		require.NoError(t, err)
		slices.Sort(waits)
		result = rushResult{requests: float64(requests) / 60, perBatch: float64(n) / float64(requests),
			median: waits[len(waits)/2], p99: waits[len(waits)*99/100]}
	})
	t.Logf("%+v: %.0f requests/s, %.1f messages/batch, latency median %v, p99 %v", r, result.requests, result.perBatch, result.median, result.p99)
	return result
}

func TestLanesWaitForFullerRequestsUnderLoad(t *testing.T) {
	t.Parallel() // one of the longest
	one := rush{lanes: 1}.measure(t)
	four := rush{lanes: 4}.measure(t)
	apart := rush{lanes: 4, alone: true}.measure(t)
	require.Greater(t, four.perBatch, 2*apart.perBatch, "fuller requests than lanes that never wait for one another")
	require.Less(t, four.requests, apart.requests/2)
	require.LessOrEqual(t, four.p99, 2*one.p99)
}

func TestAStalledLaneDelaysNoOther(t *testing.T) {
	require.Less(t, rush{lanes: 4, stall: true}.measure(t).p99, 100*time.Millisecond)
}
