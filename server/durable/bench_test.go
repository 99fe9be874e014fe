package durable

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// BenchmarkReplace sends batches of 1000 to a stream with one message per key: new versions of random ones of a million keys.
func BenchmarkReplace(b *testing.B) {
	for name, sync := range benchSync {
		b.Run(name, func(b *testing.B) {
			st := open(b, b.TempDir(), Options{Sync: sync})
			defer st.Close()
			s, err := st.CreateStream(context.Background(), store.StreamOptions{Name: "s", OneMessagePerKey: true})
			require.NoError(b, err)
			const keys, batch = 1_000_000, 1000
			send := func(version int, key func(i int) int) {
				messages := make([]store.Message, batch)
				for i := range messages {
					messages[i] = store.Message{Key: fmt.Sprintf("orders.%d", key(i)), Data: fmt.Sprintf("%0*d", 100, version)}
				}
				if _, err := s.Send(context.Background(), store.Once{}, messages); err != nil {
					b.Fatal(err)
				}
			}
			for i := range keys / batch {
				send(0, func(j int) int { return i*batch + j })
			}
			random := rand.New(rand.NewPCG(1, 1))
			b.ResetTimer()
			for i := range b.N / batch {
				send(i+1, func(int) int { return random.IntN(keys) })
			}
			b.ReportMetric(residentMB(b), "RSS-MB")
		})
	}
}

// BenchmarkSingleSends has 64 clients that send one message at a time, each synced.
func BenchmarkSingleSends(b *testing.B) {
	fs := &countingFS{FS: vfs.OS}
	st := open(b, b.TempDir(), Options{FS: fs})
	defer st.Close()
	s, err := st.CreateStream(context.Background(), store.StreamOptions{Name: "s"})
	require.NoError(b, err)
	messages := benchMessages(0, 1, 100)
	b.ResetTimer()
	before := fs.syncs.Load()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range (b.N + i) / 64 {
				if _, err := s.Send(context.Background(), store.Once{}, messages); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/float64(fs.syncs.Load()-before), "sends/sync")
}

// countingFS counts syncs of files.
type countingFS struct {
	vfs.FS
	syncs atomic.Int64
}

func (f *countingFS) Create(name string) (vfs.File, error) { return f.count(f.FS.Create(name)) }

func (f *countingFS) OpenWrite(name string) (vfs.File, error) { return f.count(f.FS.OpenWrite(name)) }

func (f *countingFS) count(file vfs.File, err error) (vfs.File, error) {
	return &countingFile{file, f}, err
}

type countingFile struct {
	vfs.File
	fs *countingFS
}

func (f *countingFile) Sync() error {
	f.fs.syncs.Add(1)
	return f.File.Sync()
}

// benchSync are the policies that are measured.
var benchSync = map[string]SyncPolicy{"always": SyncAlways, "100ms": SyncEvery(100 * time.Millisecond)}

func benchMessages(batch, n, size int) []store.Message {
	data := fmt.Sprintf("%0*d", size, batch)
	messages := make([]store.Message, n)
	for i := range messages {
		messages[i] = store.Message{Key: fmt.Sprintf("orders.%d.%d", batch, i), Data: data}
	}
	return messages
}

// BenchmarkSend sends batches, b.N messages in all.
func BenchmarkSend(b *testing.B) {
	for _, shape := range []struct{ n, size int }{{1000, 100}, {100, 1 << 10}, {100, 10 << 10}, {1, 100}} {
		for name, sync := range benchSync {
			for _, writers := range []int{1, 8, 64} {
				for _, keyed := range []bool{false, true} {
					b.Run(fmt.Sprintf("%dx%d/%s/%d/keyed=%v", shape.n, shape.size, name, writers, keyed), func(b *testing.B) {
						benchSend(b, shape.n, shape.size, sync, writers, keyed)
					})
				}
			}
		}
	}
}

func benchSend(b *testing.B, n, size int, policy SyncPolicy, writers int, keyed bool) {
	st := open(b, b.TempDir(), Options{Sync: policy})
	defer st.Close()
	s, err := st.CreateStream(context.Background(), store.StreamOptions{Name: "s", OneMessagePerKey: keyed})
	require.NoError(b, err)
	batches := make([][]store.Message, 64)
	for i := range batches {
		batches[i] = benchMessages(i, n, size)
	}
	b.SetParallelism((writers + 1) / 2)
	var worker atomic.Int64
	b.SetBytes(int64(size))
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		at := int(worker.Add(1))
		for left := 0; p.Next(); left-- {
			if left > 0 {
				continue
			}
			left = n
			at += 7
			if _, err := s.Send(context.Background(), store.Once{}, batches[at%len(batches)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkConsume receives and acks batches of 1000.
func BenchmarkConsume(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 10 << 10} {
		for name, sync := range benchSync {
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) { benchConsume(b, size, sync) })
		}
	}
}

func benchConsume(b *testing.B, size int, sync SyncPolicy) {
	ctx := context.Background()
	st := open(b, b.TempDir(), Options{Sync: SyncEvery(time.Second)})
	defer func() { st.Close() }()
	s, err := st.CreateStream(ctx, store.StreamOptions{Name: "s"})
	require.NoError(b, err)
	limits := store.ConsumerLimits{AckWait: time.Hour, MaxAckPending: 1 << 20, MaxWaiting: 9}
	_, err = s.CreateConsumer(ctx, store.ConsumerOptions{Name: "c", Filter: "orders.>", ConsumerLimits: limits})
	require.NoError(b, err)
	for i := range b.N/1000 + 1 {
		_, err := s.Send(ctx, store.Once{}, benchMessages(i, 1000, size))
		require.NoError(b, err)
	}
	require.NoError(b, st.Close())
	st = open(b, st.dir, Options{Sync: sync})
	c, err := st.Consumer(ctx, "c")
	require.NoError(b, err)
	b.SetBytes(int64(size))
	b.ResetTimer()
	var got []store.Delivery
	var ids []store.ID
	for n := 0; n < b.N; n += len(got) {
		if got, err = c.Receive(ctx, 1000, got[:0]); err != nil || len(got) == 0 {
			b.Fatal(len(got), err)
		}
		ids = ids[:0]
		for _, d := range got {
			ids = append(ids, d.ID)
		}
		if err := c.Settle(ctx, ids, store.Ack); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a store of b.N messages.
func BenchmarkOpen(b *testing.B) {
	for _, keyed := range []bool{false, true} {
		b.Run(fmt.Sprintf("keyed=%v", keyed), func(b *testing.B) {
			dir := b.TempDir()
			st := open(b, dir, Options{Sync: SyncEvery(time.Second)})
			s, err := st.CreateStream(context.Background(), store.StreamOptions{Name: "s", OneMessagePerKey: keyed})
			require.NoError(b, err)
			for i := range b.N/1000 + 1 {
				_, err := s.Send(context.Background(), store.Once{}, benchMessages(i, 1000, 100))
				require.NoError(b, err)
			}
			kill(b, st)
			b.ResetTimer()
			st = open(b, dir, Options{})
			b.StopTimer()
			b.ReportMetric(residentMB(b), "RSS-MB")
			require.NoError(b, st.Close())
		})
	}
}

// kill leaves a store as the end of the process does, but for its lock.
func kill(tb testing.TB, st *Store) {
	tb.Helper()
	require.NoError(tb, st.log.Sync(context.Background()))
	st.keeper.stop()
	<-st.keeper.done
	require.NoError(tb, st.log.Close())
}

func residentMB(tb testing.TB) (mb float64) {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "VmRSS:") {
			_, err := fmt.Sscanf(line, "VmRSS: %f", &mb)
			require.NoError(tb, err)
		}
	}
	return mb / 1024
}
