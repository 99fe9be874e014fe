//go:build unix

package otelsequin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
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

// worker does the work of a program: run handles a chunk of messages.
type worker struct {
	run, stop func()
}

// works are what a program does.
var works = map[string]func(b *testing.B, client *sequin.Client) worker{
	"publish": func(b *testing.B, client *sequin.Client) worker {
		pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(b, err)
		data := strings.Repeat("x", 100)
		keys := make([]string, 1000)
		for i := range keys {
			keys[i] = fmt.Sprintf("orders.customer.%d", i)
		}
		run := func() {
			for i := range chunk {
				if err := pub.Send(b.Context(), keys[i%len(keys)], data); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, pub.Flush(b.Context()))
		}
		return worker{run, func() { _ = pub.Close(context.Background()) }}
	},
	"range": func(b *testing.B, client *sequin.Client) worker {
		sub, err := client.Subscribe(context.Background(), "orders", "all", sequin.SubscriberConfig{})
		require.NoError(b, err)
		run := func() {
			for range chunk {
				if err := (<-sub.Deliveries()).Ack(); err != nil {
					b.Fatal(err)
				}
			}
		}
		return worker{run, func() { _ = sub.CloseNow(context.Background()) }}
	},
	"handle": func(b *testing.B, client *sequin.Client) worker {
		sub, err := client.Subscribe(context.Background(), "orders", "all", sequin.SubscriberConfig{})
		require.NoError(b, err)
		turns, handled, stopped := make(chan struct{}, chunk), make(chan struct{}, chunk), make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = sub.Handle(ctx, sequin.HandlerConfig{}, func(context.Context, sequin.Delivery) error {
				select {
				case <-turns:
					handled <- struct{}{}
				case <-stopped:
				}
				return nil
			})
		}()
		run := func() {
			for range chunk {
				turns <- struct{}{}
			}
			for range chunk {
				<-handled
			}
		}
		return worker{run, func() { close(stopped); cancel(); <-done; _ = sub.CloseNow(context.Background()) }}
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

// chunks is how many chunks each of the two Clients of a round handles, in turns, after one that is not counted.
const chunks = 10

// BenchmarkHooks does the same work without hooks and with some. An operation is a round, for which two Clients are made, because
// a Client without hooks differs from another such Client by some percent as long as both live: each finds its own number of
// lanes. It reports the medians of all rounds, by the clock and by the processors' time of the whole process. The latter hardly
// depends on what else the machine does. The median of a ratio lies between its low and its high with a probability of 95 %.
func BenchmarkHooks(b *testing.B) {
	for _, work := range []string{"publish", "range", "handle"} {
		for _, with := range []string{"none", "empty", "metrics", "otel", "propagated"} {
			b.Run(fmt.Sprintf("work=%s/hooks=%s", work, with), func(b *testing.B) {
				url := fountain(b, with == "propagated")
				var all [2][]cost
				for n := 0; b.Loop(); n++ {
					for i, c := range round(b, url, work, with, n) {
						all[i] = append(all[i], c)
					}
				}
				report(b, all, "", func(c cost) time.Duration { return c.clock })
				report(b, all, "cpu-", func(c cost) time.Duration { return c.processors })
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// cost is what a number of chunks took.
type cost struct{ clock, processors time.Duration }

// spent returns the time by the clock and by the processors, each since some moment.
func spent(b *testing.B) cost {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return cost{time.Since(start), time.Duration(used.Utime.Nano() + used.Stime.Nano())}
}

var start = time.Now()

// round does the work with a Client without hooks and with one that has some, and returns what each has taken. The number of the
// round decides which Client is first.
func round(b *testing.B, url, work, with string, n int) (took [2]cost) {
	var runs [2]worker
	for i := range runs {
		one := (i + n) % 2
		var h *sequin.Hooks
		if one == 1 {
			h = hooks(with)
		}
		client, err := sequin.NewClient(sequin.Config{BaseURL: url, Hooks: h})
		require.NoError(b, err)
		defer client.Close()
		runs[one] = works[work](b, client)
		defer runs[one].stop()
		runs[one].run()
	}
	for c := range chunks {
		for i := range runs {
			one := (i + n + c) % 2
			before := spent(b)
			runs[one].run()
			after := spent(b)
			took[one].clock += after.clock - before.clock
			took[one].processors += after.processors - before.processors
		}
	}
	return took
}

// report reports the medians of what the rounds took, for each message, and of their ratios.
func report(b *testing.B, all [2][]cost, prefix string, of func(cost) time.Duration) {
	var each [2][]float64
	var ratios []float64
	for i := range all[0] {
		without, within := float64(of(all[0][i])), float64(of(all[1][i]))
		each[0], each[1] = append(each[0], without/chunks/chunk), append(each[1], within/chunks/chunk)
		ratios = append(ratios, within/without)
	}
	for i, name := range []string{"without", "with"} {
		_, median, _ := middle(each[i])
		b.ReportMetric(median, prefix+"ns/message-"+name)
	}
	low, ratio, high := middle(ratios)
	b.ReportMetric(low, prefix+"ratio-low")
	b.ReportMetric(ratio, prefix+"ratio")
	b.ReportMetric(high, prefix+"ratio-high")
}

// middle sorts values, and returns their median and the two values between which the median of all such values lies with a
// probability of 95 %: by the binomial distribution, one standard deviation is half the square root of their number.
func middle(values []float64) (low, median, high float64) {
	slices.Sort(values)
	n := len(values)
	off := int(math.Ceil(1.96 * math.Sqrt(float64(n)) / 2))
	return values[max(n/2-off, 0)], values[n/2], values[min(n/2+off, n-1)]
}

// BenchmarkRequest calls the functions of Hooks as the library does for a request that sends 1,000 messages, and as it does for a
// receive of 1,000 messages and the ack of them. An operation is a batch.
func BenchmarkRequest(b *testing.B) {
	send := sequin.RequestInfo{Op: "send", Stream: "orders", Messages: 1000, Bytes: 150_000, Attempt: 1, RequestID: "0af7651916cd43dd8448eb211c80319c"}
	receive, ack := send, send
	receive.Op, receive.Consumer, receive.Messages, receive.Bytes = "receive", "all", 0, 40
	ack.Op, ack.Consumer, ack.Bytes = "ack", "all", 40_000
	result := sequin.RequestResult{Duration: time.Millisecond, Status: 200}
	received := result
	received.Messages = 1000
	settled := sequin.SettleInfo{Stream: "orders", Consumer: "all", Messages: 1000, Kind: sequin.Ack}
	for _, with := range []string{"empty", "metrics", "otel"} {
		h := hooks(with)
		b.Run("work=send/hooks="+with, func(b *testing.B) {
			for b.Loop() {
				h.Batch(sequin.BatchInfo{Stream: "orders", Messages: 1000, Reason: "full"})
				h.RequestDone(h.RequestStart(b.Context(), send), send, result)
			}
		})
		b.Run("work=receive-and-ack/hooks="+with, func(b *testing.B) {
			for b.Loop() {
				h.RequestDone(h.RequestStart(b.Context(), receive), receive, received)
				h.Delivered(settled)
				h.RequestDone(h.RequestStart(b.Context(), ack), ack, result)
				h.Settled(settled)
			}
		})
	}
}
