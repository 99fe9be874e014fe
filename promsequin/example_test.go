package promsequin_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/promsequin"
	"github.com/sequin-go/sequin/server"
)

// A program that sends, and serves its metrics.
func ExampleCollector() {
	s := server.New(server.Config{})
	defer s.Close()
	srv := httptest.NewServer(s)
	defer srv.Close()
	ctx := context.Background()
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	if err != nil {
		log.Fatal(err)
	}
	collector := promsequin.NewCollector()
	collector.AddPublisher(pub)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector)

	for i := range 3 {
		if err := pub.Send(ctx, fmt.Sprint("orders.", i), "new"); err != nil {
			log.Fatal(err)
		}
	}
	if err := pub.Close(ctx); err != nil {
		log.Fatal(err)
	}
	metrics := httptest.NewRecorder() // a program serves the handler under /metrics
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(metrics.Body.String()) {
		if strings.HasPrefix(line, "sequin_publisher_sent_messages_total") || strings.HasPrefix(line, "sequin_publisher_buffered_messages") {
			fmt.Print(line)
		}
	}
	// Output:
	// sequin_publisher_buffered_messages{stream="orders"} 0
	// sequin_publisher_sent_messages_total{stream="orders"} 3
}
