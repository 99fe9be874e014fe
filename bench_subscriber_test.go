package sequin_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// fountain is a server that delivers the same 1,000 messages again and again, at once, as many as it is asked for.
type fountain struct {
	*httptest.Server
	messages []byte // one after the other, each with a comma in front
	ends     []int
	acks     []byte // a ready-made body that acks all of them

	receives, settles atomic.Int64
}

func newFountain(tb testing.TB, size int) *fountain {
	tb.Helper()
	f := &fountain{acks: []byte(`{"ack_ids":[`)}
	for i := range sequin.MaxBatch {
		id := fmt.Sprintf("3f2a7c10-0000-4000-8000-%012d", i)
		f.messages = fmt.Appendf(f.messages, `,{"ack_id":"%s","deliver_count":1,"message":{"key":"orders.%d","stream_id":"0f6b1c9e-7a55-4c5e-9a39-0a5d6c2f7d11",`+
			`"data_hash":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","data":"%s","seq":%d,`+
			`"inserted_at":"2024-08-15T10:30:05.123456Z","updated_at":"2024-08-15T10:30:05.123456Z"}}`, id, i, strings.Repeat("x", size), i+1)
		f.ends = append(f.ends, len(f.messages))
		f.acks = fmt.Appendf(f.acks, `"%s",`, id)
	}
	f.start(tb)
	return f
}

// start starts the server.
func (f *fountain) start(tb testing.TB) {
	f.acks = append(f.acks[:len(f.acks)-1], `]}`...)
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	tb.Cleanup(f.Close)
}

func (f *fountain) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/receive"):
		f.receives.Add(1)
		asked, _ := io.ReadAll(r.Body)
		digits, _, _ := strings.Cut(strings.TrimPrefix(string(asked), `{"batch_size":`), ",")
		n, err := strconv.Atoi(strings.TrimSuffix(digits, "}"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		const head, tail = `{"data":[`, `]}`
		all := f.messages[1:f.ends[n-1]]
		w.Header().Set("Sequin-Waited-Ms", "0")
		w.Header().Set("Content-Length", strconv.Itoa(len(head)+len(all)+len(tail)))
		_, _ = io.WriteString(w, head)
		_, _ = w.Write(all)
		_, _ = io.WriteString(w, tail)
	case strings.HasSuffix(r.URL.Path, "/ack"), strings.HasSuffix(r.URL.Path, "/nack"):
		f.settles.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"success":true}`)
	case strings.Contains(r.URL.Path, "/consumers/"):
		_, _ = io.WriteString(w, `{"id":"5b0e5f7e-3a53-4b8f-9c79-6a1f0f1b2c3d","name":"all","ack_wait_ms":30000}`)
	default:
		_, _ = io.WriteString(w, `{"id":"0f6b1c9e-7a55-4c5e-9a39-0a5d6c2f7d11","name":"orders","one_message_per_key":false}`)
	}
}

// subscribe subscribes with the defaults.
func (f *fountain) subscribe(b *testing.B) (*sequin.Client, *sequin.Subscriber) {
	b.Helper()
	client, err := sequin.NewClient(sequin.Config{BaseURL: f.URL})
	require.NoError(b, err)
	sub, err := client.Subscribe(b.Context(), "orders", "all", sequin.SubscriberConfig{})
	require.NoError(b, err)
	return client, sub
}

// BenchmarkReceiveAndAckLimit measures net/http alone: receive and ack, one after the other, on one connection, with
// ready-made bodies and nothing decoded. An operation is a message.
func BenchmarkReceiveAndAckLimit(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			f := newFountain(b, size)
			post := func(verb string, body []byte) {
				resp, err := f.Client().Post(f.URL+"/api/streams/orders/consumers/all/"+verb, "application/json", bytes.NewReader(body))
				require.NoError(b, err)
				_, err = io.Copy(io.Discard, resp.Body)
				require.NoError(b, err)
				require.NoError(b, resp.Body.Close())
			}
			ask := fmt.Appendf(nil, `{"batch_size":%d}`, sequin.MaxBatch)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%sequin.MaxBatch == 0 {
					post("receive", ask)
					post("ack", f.acks)
				}
			}
		})
	}
}

// BenchmarkSubscriber receives, decodes, delivers and acks. An operation is a message.
func BenchmarkSubscriber(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, inFlight := range []int{1000, 4000} {
			b.Run(fmt.Sprintf("%dB/%d", size, inFlight), func(b *testing.B) {
				f := newFountain(b, size)
				client, err := sequin.NewClient(sequin.Config{BaseURL: f.URL})
				require.NoError(b, err)
				sub, err := client.Subscribe(b.Context(), "orders", "all", sequin.SubscriberConfig{MaxInFlight: inFlight})
				require.NoError(b, err)
				for range 20_000 { // until the window has grown
					require.NoError(b, (<-sub.Deliveries()).Ack())
				}
				f.receives.Store(0)
				f.settles.Store(0)
				b.ReportAllocs()
				for b.Loop() {
					if err := (<-sub.Deliveries()).Ack(); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N)/float64(f.receives.Load()), "messages/receive")
				b.ReportMetric(float64(b.N)/float64(f.settles.Load()), "acks/request")
				require.NoError(b, sub.Close(context.Background()))
				client.Close()
			})
		}
	}
}

// BenchmarkReadAhead reads deliveries in groups and acks each group. An operation is a message.
func BenchmarkReadAhead(b *testing.B) {
	for _, group := range []int{10, 100, 1000} {
		b.Run(strconv.Itoa(group), func(b *testing.B) {
			client, sub := newFountain(b, 100).subscribe(b)
			channel, held := sub.Deliveries(), []sequin.Delivery(nil)
			for b.Loop() {
				if held = append(held, <-channel); len(held) == group {
					for _, d := range held {
						if err := d.Ack(); err != nil {
							b.Fatal(err)
						}
					}
					held = held[:0]
				}
			}
			b.StopTimer()
			require.NoError(b, sub.CloseNow(context.Background()))
			client.Close()
		})
	}
}

// BenchmarkHandleBatch handles deliveries in batches, by a handler that does nothing. An operation is a message.
func BenchmarkHandleBatch(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			client, sub := newFountain(b, 100).subscribe(b)
			ctx, cancel := context.WithCancel(b.Context())
			handled := make(chan int)
			done := make(chan error, 1)
			go func() {
				done <- sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: size}, func(ctx context.Context, batch []sequin.Delivery) error {
					select {
					case handled <- len(batch):
					case <-ctx.Done():
					}
					return nil
				})
			}()
			for left := 0; b.Loop(); left-- {
				if left == 0 {
					left = <-handled
				}
			}
			b.StopTimer()
			cancel()
			<-done
			client.Close()
		})
	}
}

// BenchmarkIdleLatency measures the time from a Send on an idle stream to the range loop, and that of a plain request to the
// same server.
func BenchmarkIdleLatency(b *testing.B) {
	srv := server.New(server.Config{})
	web := httptest.NewServer(srv)
	b.Cleanup(func() { srv.Close(); web.Close() })
	ctx := context.Background()
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	require.NoError(b, err)
	_, err = client.CreateStream(ctx, "orders", sequin.StreamOptions{})
	require.NoError(b, err)
	_, err = client.CreateConsumer(ctx, "orders", "all", ">", sequin.ConsumerOptions{})
	require.NoError(b, err)
	sub, err := client.Subscribe(ctx, "orders", "all", sequin.SubscriberConfig{})
	require.NoError(b, err)
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	require.NoError(b, err)
	var plain, through []time.Duration
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		resp, err := http.Get(web.URL + "/api/streams/orders/consumers/all")
		require.NoError(b, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		plain = append(plain, time.Since(began))

		began = time.Now()
		require.NoError(b, pub.Send(ctx, "orders."+strconv.Itoa(n), "x"))
		d := <-sub.Deliveries()
		through = append(through, time.Since(began))
		require.NoError(b, d.AckSync(ctx))
	}
	median := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2].Nanoseconds()) }
	b.ReportMetric(median(plain), "ns/plain")
	b.ReportMetric(median(through), "ns/send-to-loop")
	b.ReportMetric(median(through)/median(plain), "plain-requests")
	b.StopTimer()
	require.NoError(b, pub.Close(ctx))
	require.NoError(b, sub.Close(ctx))
	client.Close()
}
