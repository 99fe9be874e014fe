package otelsequin_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/otelsequin"
	"github.com/sequin-go/sequin/sequintest"
)

// world is a server in memory, its client, and what OpenTelemetry gets of it.
type world struct {
	*sequintest.Server
	client *sequin.Client
	ctx    context.Context
	spans  *tracetest.InMemoryExporter
	traces *sdktrace.TracerProvider
	reader *metric.ManualReader
	meters *metric.MeterProvider
}

func newWorld(t *testing.T, cfg sequintest.Config, propagator propagation.TextMapPropagator) *world {
	t.Helper()
	w := &world{Server: sequintest.NewServer(t, cfg), ctx: t.Context(), spans: tracetest.NewInMemoryExporter(), reader: metric.NewManualReader()}
	w.traces = sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans))
	w.meters = metric.NewMeterProvider(metric.WithReader(w.reader))
	w.client = w.connect(t, otelsequin.Options{TracerProvider: w.traces, MeterProvider: w.meters, Propagator: propagator})
	_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	_, err = w.client.CreateConsumer(w.ctx, "orders", "billing", ">", sequin.ConsumerOptions{})
	require.NoError(t, err)
	return w
}

// connect returns a client with hooks.
func (w *world) connect(t *testing.T, o otelsequin.Options) *sequin.Client {
	t.Helper()
	c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client(), Hooks: otelsequin.Hooks(o)})
	require.NoError(t, err)
	return c
}

// named returns the spans with a name.
func (w *world) named(name string) (got tracetest.SpanStubs) {
	for _, s := range w.spans.GetSpans() {
		if s.Name == name {
			got = append(got, s)
		}
	}
	return got
}

// attrs returns the attributes of a span, without those that differ in each run.
func attrs(s tracetest.SpanStub) map[string]any {
	got := map[string]any{}
	for _, a := range s.Attributes {
		if a.Key != "sequin.request.id" && a.Key != "http.request.body.size" {
			got[string(a.Key)] = a.Value.AsInterface()
		}
	}
	return got
}

// collected returns the points of a metric as numbers by their attributes: the sum, the last value, or the count of a histogram.
func (w *world) collected(t *testing.T, name string) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, w.reader.Collect(context.Background(), &all))
	got := map[string]float64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			require.NotEmpty(t, m.Description)
			require.NotEmpty(t, m.Unit)
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					got[text(p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					got[text(p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					got[text(p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					got[text(p.Attributes)] = float64(p.Count)
				}
			default:
				t.Fatalf("%T", d)
			}
		}
	}
	return got
}

// text returns a set of attributes without those that all have.
func text(s attribute.Set) string {
	kept, _ := s.Filter(func(a attribute.KeyValue) bool {
		return a.Key != "messaging.system" && a.Key != "messaging.destination.name"
	})
	return kept.Encoded(attribute.DefaultEncoder())
}

// handle calls a handler until n deliveries were handled.
func (w *world) handle(t *testing.T, n int, handler func(context.Context, sequin.Delivery) error) {
	t.Helper()
	sub, err := w.client.Subscribe(w.ctx, "orders", "billing", sequin.SubscriberConfig{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	handled := 0
	require.NoError(t, sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: time.Hour, BackoffMax: time.Hour}, func(ctx context.Context, d sequin.Delivery) error {
		if handled++; handled == n {
			cancel()
		}
		return handler(ctx, d)
	}))
}

// onSpan is a RoundTripper that calls a function with each request.
type onSpan struct {
	http.RoundTripper
	see func(*http.Request)
}

func (o onSpan) RoundTrip(r *http.Request) (*http.Response, error) {
	o.see(r)
	return o.RoundTripper.RoundTrip(r)
}
