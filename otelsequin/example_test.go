package otelsequin_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/otelsequin"
	"github.com/sequin-go/sequin/server"
)

// A message is one trace: from what the program does when it sends, over the server, to what its handler does.
func Example() {
	spans := tracetest.NewInMemoryExporter() // a program has an exporter of package otlp here
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	tracer := provider.Tracer("shop")

	s := server.New(server.Config{})
	defer s.Close()
	srv := httptest.NewServer(s)
	defer srv.Close()
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, Hooks: otelsequin.Hooks(otelsequin.Options{
		TracerProvider: provider, MeterProvider: noop.NewMeterProvider(), Propagator: propagation.TraceContext{},
	})})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	if _, err := client.CreateConsumer(ctx, "orders", "billing", ">", sequin.ConsumerOptions{}); err != nil {
		log.Fatal(err)
	}
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	if err != nil {
		log.Fatal(err)
	}
	checkout, span := tracer.Start(ctx, "checkout")
	if err := pub.SendSync(checkout, sequin.Message{Key: "orders.1", Data: `{"qty":4}`}); err != nil {
		log.Fatal(err)
	}
	span.End()
	if err := pub.Close(ctx); err != nil {
		log.Fatal(err)
	}

	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		log.Fatal(err)
	}
	err = sub.Handle(ctx, sequin.HandlerConfig{}, func(ctx context.Context, d sequin.Delivery) error {
		_, span := tracer.Start(ctx, "charge "+d.Key)
		span.End()
		cancel() // a program goes on until it is interrupted
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	printTrace(spans.GetSpans(), span.SpanContext().TraceID(), trace.SpanID{}, 0)
	// Output:
	// checkout (internal)
	//   create orders (producer)
	//     process orders (consumer)
	//       charge orders.1 (internal)
}

// A program whose metrics also have what is buffered and in flight.
func ExampleGauges() {
	reader := sdkmetric.NewManualReader() // a program has a reader that exports
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	s := server.New(server.Config{})
	defer s.Close()
	srv := httptest.NewServer(s)
	defer srv.Close()
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, Hooks: otelsequin.Hooks(otelsequin.Options{MeterProvider: meters})})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	gauges, err := otelsequin.NewGauges(meters)
	if err != nil {
		log.Fatal(err)
	}
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{Linger: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	gauges.AddPublisher(pub)

	ctx := context.Background()
	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	if err := pub.Send(ctx, "orders.1", "new"); err != nil {
		log.Fatal(err)
	}
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &collected); err != nil {
		log.Fatal(err)
	}
	for _, m := range collected.ScopeMetrics[0].Metrics {
		if m.Name == "sequin.publisher.buffered.messages" {
			fmt.Println(m.Name, m.Data.(metricdata.Gauge[int64]).DataPoints[0].Value)
		}
	}
	if err := pub.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: sequin.publisher.buffered.messages 1
}

// printTrace prints the spans of a trace below a parent.
func printTrace(spans tracetest.SpanStubs, id trace.TraceID, parent trace.SpanID, depth int) {
	for _, s := range spans {
		if s.SpanContext.TraceID() == id && s.Parent.SpanID() == parent {
			fmt.Printf("%s%s (%v)\n", strings.Repeat("  ", depth), s.Name, s.SpanKind)
			printTrace(spans, id, s.SpanContext.SpanID(), depth+1)
		}
	}
}
