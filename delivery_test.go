package sequin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

func TestTheZeroDeliverySettlesToErrNotDelivered(t *testing.T) {
	var d sequin.Delivery
	require.ErrorIs(t, d.Ack(), sequin.ErrNotDelivered)
	require.ErrorIs(t, d.AckSync(t.Context()), sequin.ErrNotDelivered)
	require.ErrorIs(t, d.Nack(), sequin.ErrNotDelivered)
	require.ErrorIs(t, d.NackAfter(time.Second), sequin.ErrNotDelivered)
	require.ErrorIs(t, d.Release(), sequin.ErrNotDelivered)
	require.NoError(t, d.Context().Err())
}

// recorder is an Acknowledger that records its calls.
type recorder struct{ calls []string }

func (r *recorder) Settle(_ context.Context, d sequin.Delivery, s sequin.Settlement) error {
	r.calls = append(r.calls, fmt.Sprintf("%s: %+v", d.Key, s))
	return nil
}

func TestALiteralDeliveryPassesEveryCallToItsAcknowledger(t *testing.T) {
	var got recorder
	d := sequin.Delivery{Key: "k", Acknowledger: &got}
	require.NoError(t, d.Ack())
	require.NoError(t, d.AckSync(t.Context()))
	require.NoError(t, d.Nack())
	require.NoError(t, d.NackAfter(time.Second))
	require.NoError(t, d.NackAfter(-time.Second))
	require.NoError(t, d.Release())
	require.Equal(t, []string{
		"k: {Kind:1 Delay:0s Sync:false}",
		"k: {Kind:1 Delay:0s Sync:true}",
		"k: {Kind:2 Delay:0s Sync:false}",
		"k: {Kind:2 Delay:1s Sync:false}",
		"k: {Kind:2 Delay:0s Sync:false}",
		"k: {Kind:4 Delay:0s Sync:false}",
	}, got.calls)
}

func TestTheContextOfALiteralDeliveryEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sequin.Delivery{Deadline: time.Now().Add(time.Second)}
		ctx := d.Context()
		time.Sleep(time.Second - time.Nanosecond)
		require.NoError(t, ctx.Err())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
	})
}

func TestADeliveryHasTheFieldsOfItsMessage(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 20 * time.Second})
		text := strings.Repeat("\"ü\n\t€😀\\", 50)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.send(t, "orders.1", text)
		d := next(t, sub, time.Second)
		m, err := w.client.GetMessage(w.ctx, "orders", "orders.1")
		require.NoError(t, err)
		require.Equal(t, "orders.1", d.Key)
		require.Equal(t, text, d.Data)
		require.Equal(t, m.Seq, d.Seq)
		require.Equal(t, m.InsertedAt, d.InsertedAt)
		require.Equal(t, m.UpdatedAt, d.UpdatedAt)
		require.Equal(t, w.consumer(t).Outstanding[0].AckID, d.AckID)
		require.NoError(t, d.Nack())
		d = next(t, sub, time.Second)
		attempt := 2
		if w.mode == server.Aug2024 {
			attempt = 0 // this server does not report it
		}
		require.Equal(t, attempt, d.Attempt)
		require.NoError(t, d.Ack())
		closeNow(t, sub)
	})
}

func TestADeliveryHasTheNamesOfItsStreamAndConsumer(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		stream, consumer := w.stream(t, "orders", sequin.ConsumerOptions{})
		w.send(t, "k.1", "x")
		sub, err := w.client.Subscribe(w.ctx, stream.ID, consumer.ID, sequin.SubscriberConfig{})
		require.NoError(t, err)
		d := next(t, sub, time.Second)
		require.Equal(t, "orders", d.Stream(), "subscribed by id")
		require.Equal(t, "all", d.Consumer())
		d.Acknowledger = &recorder{}
		require.Equal(t, "orders", d.Stream(), "with an Acknowledger in between")
		require.NoError(t, d.Ack())
		require.Empty(t, sequin.Delivery{}.Stream())
		require.Empty(t, sequin.Delivery{Acknowledger: &recorder{}}.Consumer())
		_ = sub.Close(w.ctx)
	})
}

// A Delivery is copied into the channel and out of it. The 8 bytes of Headers are no measurable part of that: BenchmarkSubscriber
// with 100 B takes 1.1 to 1.8 µs of CPU with and without them.
func TestADeliveryIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(sequin.Delivery{}), uintptr(168))
}

func TestTheContextOfADeliveryEndsWithItsLeaseOrItsSubscriber(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		w.publish(t, "k", 2)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		ctx := d.Context()
		deadline, ok := ctx.Deadline()
		require.True(t, ok)
		require.Equal(t, d.Deadline, deadline)
		time.Sleep(time.Until(deadline))
		synctest.Wait()
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)

		d = next(t, sub, 10*time.Second)
		ctx = d.Context()
		ended, cancel := context.WithCancel(w.ctx)
		cancel()
		require.Error(t, sub.Close(ended))
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		require.ErrorIs(t, d.Context().Err(), context.Canceled)
	})
}

// heap returns how many bytes are in use after a collection.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // sync.Pool keeps its values for one collection
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// batchOf returns the answer to a receive, with as many messages as it asks for.
func batchOf(r *http.Request, size int) string {
	var asked struct {
		BatchSize int `json:"batch_size"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return err.Error()
	}
	var b strings.Builder
	for i := range asked.BatchSize {
		fmt.Fprintf(&b, `,{"ack_id":"00000000-0000-0000-0000-%012d","message":{"key":"k.%d","data":"%s","seq":%d}}`,
			i, i, strings.Repeat("x", size), i+1)
	}
	return `{"data":[` + b.String()[1:] + `]}`
}

// Programs keep keys in maps and deliveries in lists. These must not keep whole answers in memory.
func TestAKeyOrADeliveryThatIsKeptDoesNotKeepItsBatchInMemory(t *testing.T) {
	const batches, perBatch, size = 3000, 50, 300 // so many that what else is on the heap does not matter
	// Ready-made answers: the store of a server would be in the same heap.
	hands := func(behind http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			body := `{"success":true}`
			switch {
			case strings.HasSuffix(r.URL.Path, "/receive"):
				body = batchOf(r, size)
			case r.Method == http.MethodGet:
				return behind.RoundTrip(r)
			}
			r.Body.Close()
			return &http.Response{StatusCode: http.StatusOK, Request: r, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
		})
	}
	for name, row := range map[string]struct {
		keep  func(kept *[]any, d sequin.Delivery)
		bytes int // of one kept
	}{
		"key":      {func(kept *[]any, d sequin.Delivery) { *kept = append(*kept, d.Key) }, 800},
		"delivery": {func(kept *[]any, d sequin.Delivery) { *kept = append(*kept, d) }, 1800},
	} {
		t.Run(name, func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				sub := subscribe(t, w.through(t, hands), sequin.SubscriberConfig{MaxInFlight: 2 * perBatch, Pollers: 1})
				kept := make([]any, 0, batches)
				n := 0
				take := func(of int, keep func(*[]any, sequin.Delivery)) {
					for range of {
						d := next(t, sub, time.Second)
						if n%perBatch == perBatch/2 {
							keep(&kept, d)
						}
						n++
						require.NoError(t, d.Ack())
					}
				}
				take(2*perBatch, func(*[]any, sequin.Delivery) {})
				before := heap()
				take((batches-2)*perBatch, row.keep)
				each := (heap() - before) / len(kept)
				t.Logf("%d bytes for each kept %s of a message of %d in a batch of %d", each, name, size, perBatch*size)
				require.Less(t, each, row.bytes)
				require.LessOrEqual(t, int(sub.Stats().Polls), 2*batches)
				runtime.KeepAlive(kept)
				closeNow(t, sub)
			})
		})
	}
}
