package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sequin-go/sequin/server"
)

// metrics counts requests and answers GET /metrics.
type metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger
	streams  *streamMetrics // nil before watch

	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	bytesIn  *prometheus.CounterVec
	bytesOut *prometheus.CounterVec
}

// durations are the upper bounds of the histogram, in seconds. A long poll takes up to 5 minutes.
var durations = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30, 120, 300}

func newMetrics(version string, log *slog.Logger) *metrics {
	byRoute := []string{"route"}
	m := &metrics{
		registry: prometheus.NewRegistry(), log: log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sequin_requests_total", Help: "Requests that were answered, by route and status.",
		}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sequin_request_duration_seconds", Help: "Time from the header of a request to the end of its answer. Receives include their wait.", Buckets: durations,
		}, byRoute),
		bytesIn: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sequin_request_bytes_total", Help: "Bytes of the bodies of requests.",
		}, byRoute),
		bytesOut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sequin_response_bytes_total", Help: "Bytes of the bodies of answers.",
		}, byRoute),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sequin_build_info", Help: "1, with the version as a label.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.duration, m.bytesIn, m.bytesOut, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds what the server has to do at the moment of the question. slow says that the store takes a transaction of a database for a
// question about a consumer.
func (m *metrics) watch(api *server.Server, slow bool) {
	for _, g := range []struct {
		name, help string
		value      func(server.Load) float64
	}{
		{"sequin_connections", "Open connections.", func(l server.Load) float64 { return float64(l.Connections) }},
		{"sequin_requests_running", "Requests without an answer yet, those that wait included.", func(l server.Load) float64 { return float64(l.Requests) }},
		{"sequin_receives_waiting", "Receives that wait for messages.", func(l server.Load) float64 { return float64(l.Waiting) }},
		{"sequin_bytes_in_flight", "Memory that running requests and their answers take.", func(l server.Load) float64 { return float64(l.BytesInFlight) }},
	} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, func() float64 { return g.value(api.Load()) }))
	}
	m.streams = newStreamMetrics(api, slow)
	m.registry.MustRegister(m.streams)
}

// observe counts a request.
func (m *metrics) observe(i server.RequestInfo) {
	m.requests.WithLabelValues(i.Route, strconv.Itoa(i.Status)).Inc()
	m.duration.WithLabelValues(i.Route).Observe(i.Duration.Seconds())
	m.bytesIn.WithLabelValues(i.Route).Add(float64(i.BytesIn))
	m.bytesOut.WithLabelValues(i.Route).Add(float64(i.BytesOut))
	m.logRequest(i)
}

// slow is how much of its own work makes the server warn of a request, which takes milliseconds otherwise.
const slow = time.Second

// logRequest writes the line of a request: a warning if the server itself was slow, else a line for debugging.
func (m *metrics) logRequest(i server.RequestInfo) {
	level, text, own := slog.LevelDebug, "request", i.Duration-i.Waited
	if own > slow {
		level, text = slog.LevelWarn, "slow request: look at the load of the machine and of the store"
	}
	if m.log.Enabled(context.Background(), level) {
		m.log.Log(context.Background(), level, text, "route", i.Route, "status", i.Status, "duration", i.Duration, "own_work", own,
			"bytes_in", i.BytesIn, "bytes_out", i.BytesOut)
	}
}

// handler answers GET /metrics, and GET /metrics?stream=NAME with the metrics of that stream and all its consumers only.
func (m *metrics) handler() http.Handler {
	all := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names := r.URL.Query()["stream"]
		switch {
		case len(names) == 0:
			all.ServeHTTP(w, r)
		case len(names) > maxStreamLabels:
			http.Error(w, fmt.Sprintf("%d streams: ask for at most %d", len(names), maxStreamLabels), http.StatusBadRequest)
		default:
			few := prometheus.NewRegistry()
			few.MustRegister(namedStreams{m.streams, r.Context(), slices.Compact(slices.Sorted(slices.Values(names)))})
			promhttp.HandlerFor(few, promhttp.HandlerOpts{}).ServeHTTP(w, r)
		}
	})
}
