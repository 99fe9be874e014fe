package seglog

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkCommit appends records of a number of messages of a size, each of which its caller waits for. The rate is that
// of messages; syncs is how many records share one.
func BenchmarkCommit(b *testing.B) {
	for _, policy := range []Policy{{}, {Every: 100 * time.Millisecond}} {
		for _, load := range []struct{ messages, size, callers int }{
			{1000, 100, 1}, {1000, 100, 8}, {100, 1 << 10, 1}, {100, 1 << 10, 8}, {100, 10 << 10, 1}, {100, 10 << 10, 8}, {1, 100, 1}, {1, 100, 64},
		} {
			name := fmt.Sprintf("every=%s/%dx%dB/callers=%d", policy.Every, load.messages, load.size, load.callers)
			b.Run(name, func(b *testing.B) { benchCommit(b, policy, load.messages, load.size, load.callers) })
		}
	}
}

func benchCommit(b *testing.B, policy Policy, messages, size, callers int) {
	l, err := Open(b.TempDir(), Options{Policy: policy, MinFree: -1})
	require.NoError(b, err)
	require.NoError(b, l.Start())
	body := make([]byte, messages*size)
	for i := range body {
		body[i] = byte(i)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var done sync.WaitGroup
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	for range callers {
		done.Go(func() {
			for left.Add(-1) >= 0 {
				if err := l.WaitRoom(b.Context()); err != nil {
					b.Error(err)
				}
				if err := l.Wait(b.Context(), l.Append(1, 1, body)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	done.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N*messages)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64(b.N)/float64(l.Syncs()), "records/sync")
	require.NoError(b, l.Close())
}

// BenchmarkReplay opens and replays a log with 10^6 messages in records of 1,000.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	l, err := Open(dir, Options{Policy: Policy{Every: time.Second}, MinFree: -1})
	require.NoError(b, err)
	require.NoError(b, l.Start())
	for range 1000 {
		require.NoError(b, l.Wait(b.Context(), l.Append(1, 1, make([]byte, 100_000))))
	}
	require.NoError(b, l.Close())
	for b.Loop() {
		l, err := Open(dir, Options{MinFree: -1})
		require.NoError(b, err)
		n := 0
		require.NoError(b, l.Replay(0, func(Record) error { n++; return nil }))
		require.Equal(b, 1000, n)
		require.NoError(b, l.Close())
	}
	b.SetBytes(100_000_000)
}

// BenchmarkRun reads runs of 64 KiB out of records of 10 KiB.
func BenchmarkRun(b *testing.B) {
	l, err := Open(b.TempDir(), Options{Policy: Policy{Every: time.Second}, MinFree: -1})
	require.NoError(b, err)
	require.NoError(b, l.Start())
	for range 1000 {
		require.NoError(b, l.Wait(b.Context(), l.Append(1, 1, make([]byte, 10_000))))
	}
	r, pos := l.NewReader(), Pos(0)
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	for b.Loop() {
		next, err := r.Run(pos, 64<<10, func(Record) bool { return true })
		require.NoError(b, err)
		if pos = next; next == l.End() {
			pos = 0
		}
	}
	require.NoError(b, l.Close())
}
