package sequin

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func fail(h *history, key string, seq int64) record {
	return h.update(Delivery{Key: key, Seq: seq}, func(r *record) { r.note(time.Unix(seq, 0), "why", true) })
}

func TestAHistoryCountsVersionsApart(t *testing.T) {
	h := newHistory()
	require.Equal(t, 1, fail(h, "k", 1).failures)
	require.Equal(t, 2, fail(h, "k", 1).failures)
	require.Equal(t, 1, fail(h, "k", 2).failures, "another version of the key")
	require.Equal(t, 2, h.of(Delivery{Key: "k", Seq: 1}).attempts)
	require.Zero(t, h.of(Delivery{Key: "k", Seq: 3}))
	h.forget(Delivery{Key: "k", Seq: 1})
	require.Zero(t, h.of(Delivery{Key: "k", Seq: 1}))
	require.Equal(t, 1, h.of(Delivery{Key: "k", Seq: 2}).failures)
}

func TestAHistoryKeepsTheFirstAndTheLastFailure(t *testing.T) {
	h := newHistory()
	for at := range int64(3) {
		h.update(Delivery{Key: "k"}, func(r *record) { r.note(time.Unix(at, 0), fmt.Sprint(at), at > 0) })
	}
	r := h.of(Delivery{Key: "k"})
	require.Equal(t, record{failures: 3, attempts: 2, first: time.Unix(0, 0), last: time.Unix(2, 0), text: "2"}, r)
}

func TestAHistoryForgetsWhatHasNotFailedForTheLongest(t *testing.T) {
	h := newHistory()
	for i := range maxHistory {
		fail(h, "k", int64(i))
	}
	fail(h, "k", 0) // once more: now the latest
	fail(h, "k", maxHistory)
	require.Len(t, h.records, maxHistory)
	require.Equal(t, maxHistory, h.order.Len())
	require.Equal(t, 2, h.of(Delivery{Key: "k", Seq: 0}).failures)
	require.Zero(t, h.of(Delivery{Key: "k", Seq: 1}), "the oldest")
	require.Equal(t, 1, h.of(Delivery{Key: "k", Seq: 2}).failures)
}

func TestAHistoryKeepsNoData(t *testing.T) {
	h := newHistory()
	before := heap()
	for i := range 100 {
		message := fmt.Sprintf("k.%04d", i) + strings.Repeat("x", 1<<20) // key and data share their memory
		fail(h, message[:6], int64(i))
	}
	require.Less(t, int64(heap())-int64(before), int64(10<<20))
	require.Len(t, h.records, 100)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
