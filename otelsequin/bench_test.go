package otelsequin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/otelsequin"
)

// fountain is a server on the loopback interface that accepts everything at once, and delivers the same 1,000 messages of 100
// bytes again and again. Their headers are those of a trace if traced is set.
func fountain(b *testing.B, traced bool) string {
	b.Helper()
	headers := ""
	if traced {
		headers = `"headers":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},`
	}
	var messages []string
	for i := range sequin.MaxBatch {
		messages = append(messages, fmt.Sprintf(`{"ack_id":"3f2a7c10-0000-4000-8000-%012d","deliver_count":1,"message":{"key":"orders.%d","data":%q,%s"seq":%d,`+
			`"inserted_at":"2024-08-15T10:30:05.123456Z","updated_at":"2024-08-15T10:30:05.123456Z"}}`, i, i, strings.Repeat("x", 100), headers, i+1))
	}
	whole := `{"data":[` + strings.Join(messages, ",") + `]}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Sequin-Extensions", "headers")
		w.Header().Set("Sequin-Waited-Ms", "0")
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/receive"):
			var asked struct {
				BatchSize int `json:"batch_size"`
			}
			_ = json.NewDecoder(r.Body).Decode(&asked)
			if asked.BatchSize == len(messages) {
				_, _ = io.WriteString(w, whole)
				return
			}
			_, _ = io.WriteString(w, `{"data":[`+strings.Join(messages[:asked.BatchSize], ",")+`]}`)
			return
		case strings.HasSuffix(path, "/messages"):
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `{"data":{"published":1000}}`)
		case strings.HasSuffix(path, "ack"):
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `{"success":true}`)
		case strings.Contains(path, "/consumers/"):
			_, _ = io.WriteString(w, `{"id":"5b0e5f7e-3a53-4b8f-9c79-6a1f0f1b2c3d","name":"all","ack_wait_ms":30000}`)
		default:
			_, _ = io.WriteString(w, `{"id":"0f6b1c9e-7a55-4c5e-9a39-0a5d6c2f7d11","name":"orders","one_message_per_key":false}`)
		}
	}))
	b.Cleanup(srv.Close)
	return srv.URL
}

// chunk is how many messages are handled between two looks at the clock: some tens of milliseconds.
const chunk = 20_000

// works are what a program does. Each returns a function that handles a chunk of messages.
var works = map[string]func(b *testing.B, client *sequin.Client) func(){
	"publish": func(b *testing.B, client *sequin.Client) func() {
		pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(b, err)
		b.Cleanup(func() { _ = pub.Close(context.Background()) })
		data := strings.Repeat("x", 100)
		keys := make([]string, 1000)
		for i := range keys {
			keys[i] = fmt.Sprintf("orders.customer.%d", i)
		}
		return func() {
			for i := range chunk {
				if err := pub.Send(b.Context(), keys[i%len(keys)], data); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, pub.Flush(b.Context()))
		}
	},
	"range": func(b *testing.B, client *sequin.Client) func() {
		sub, err := client.Subscribe(context.Background(), "orders", "all", sequin.SubscriberConfig{})
		require.NoError(b, err)
		b.Cleanup(func() { _ = sub.CloseNow(context.Background()) })
		return func() {
			for range chunk {
				if err := (<-sub.Deliveries()).Ack(); err != nil {
					b.Fatal(err)
				}
			}
		}
	},
	"handle": func(b *testing.B, client *sequin.Client) func() {
		sub, err := client.Subscribe(context.Background(), "orders", "all", sequin.SubscriberConfig{})
		require.NoError(b, err)
		turns, handled := make(chan struct{}, chunk), make(chan struct{}, chunk)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = sub.Handle(ctx, sequin.HandlerConfig{}, func(ctx context.Context, _ sequin.Delivery) error {
				select {
				case <-turns:
					handled <- struct{}{}
				case <-ctx.Done():
				}
				return nil
			})
		}()
		b.Cleanup(func() { cancel(); <-done })
		return func() {
			for range chunk {
				turns <- struct{}{}
			}
			for range chunk {
				<-handled
			}
		}
	},
}

// hooks are what a program sets. Spans are sampled and passed to an exporter that drops them.
func hooks(name string) *sequin.Hooks {
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(dropped{}))
	meters := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader()))
	switch name {
	case "empty":
		return &sequin.Hooks{
			RequestStart: func(ctx context.Context, _ sequin.RequestInfo) context.Context { return ctx },
			RequestDone:  func(context.Context, sequin.RequestInfo, sequin.RequestResult) {},
			Delivered:    func(sequin.SettleInfo) {},
			Settled:      func(sequin.SettleInfo) {},
			Batch:        func(sequin.BatchInfo) {},
			State:        func(sequin.StateInfo) {},
			HandlerStart: func(ctx context.Context, _ sequin.Delivery) context.Context { return ctx },
			HandlerDone:  func(context.Context, sequin.Delivery, sequin.HandlerResult) {},
		}
	case "metrics":
		return otelsequin.Hooks(otelsequin.Options{TracerProvider: noop.NewTracerProvider(), MeterProvider: meters})
	case "otel":
		return otelsequin.Hooks(otelsequin.Options{TracerProvider: traces, MeterProvider: meters})
	case "propagated":
		return otelsequin.Hooks(otelsequin.Options{TracerProvider: traces, MeterProvider: meters, Propagator: propagation.TraceContext{}})
	}
	return nil
}

// dropped is an exporter that drops all spans.
type dropped struct{}

func (dropped) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (dropped) Shutdown(context.Context) error                             { return nil }

// BenchmarkHooks does the same work without hooks and with some, in turns, and reports the medians of both and their ratio. A
// chunk of 20,000 messages is an operation.
func BenchmarkHooks(b *testing.B) {
	for _, work := range []string{"publish", "range", "handle"} {
		for _, with := range []string{"none", "empty", "metrics", "otel", "propagated"} {
			b.Run(fmt.Sprintf("work=%s/hooks=%s", work, with), func(b *testing.B) {
				url := fountain(b, with == "propagated")
				var runs [2]func()
				for i, h := range []*sequin.Hooks{nil, hooks(with)} {
					client, err := sequin.NewClient(sequin.Config{BaseURL: url, Hooks: h})
					require.NoError(b, err)
					b.Cleanup(client.Close)
					runs[i] = works[work](b, client)
					runs[i]()
				}
				var took [2][]time.Duration
				for n := 0; b.Loop(); n++ {
					for i := range runs {
						one := (i + n) % 2
						began := time.Now()
						runs[one]()
						took[one] = append(took[one], time.Since(began))
					}
				}
				median := func(all []time.Duration) float64 {
					slices.Sort(all)
					return float64(all[len(all)/2]) / chunk
				}
				without, within := median(took[0]), median(took[1])
				b.ReportMetric(without, "ns/message-without")
				b.ReportMetric(within, "ns/message-with")
				b.ReportMetric(within/without, "ratio")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
