// Package promsequin exports the Stats of Publishers and Subscribers as metrics of Prometheus.
//
//	collector := promsequin.NewCollector()
//	collector.AddPublisher(pub)
//	collector.AddSubscriber(sub)
//	prometheus.MustRegister(collector)
//
// The metrics of a Publisher have the label stream, and those of a Subscriber stream and consumer; for a sink, stream is empty and
// consumer is the sink. Publishers of one stream are added up, and so are Subscribers of one consumer; ages are the largest.
// deploy/grafana/clients.json is a dashboard of them.
//
// Package otelsequin has metrics of OpenTelemetry, and traces.
package promsequin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/internal/figures"
)

// Collector is a prometheus.Collector of the Stats of Publishers and Subscribers. It reads them when it is collected, and costs
// nothing otherwise. Its methods may be called from any goroutine.
type Collector struct{ figures figures.Set }

// NewCollector returns a Collector without Publishers and Subscribers.
func NewCollector() *Collector { return new(Collector) }

// AddPublisher adds a Publisher, which stays after its Close. Adding it again does nothing.
func (c *Collector) AddPublisher(p *sequin.Publisher) { c.figures.AddPublisher(p) }

// RemovePublisher removes a Publisher. What it has counted stays in the totals of its stream, which do not fall.
func (c *Collector) RemovePublisher(p *sequin.Publisher) { c.figures.RemovePublisher(p) }

// AddSubscriber adds a Subscriber, which stays after its Close. Adding it again does nothing.
func (c *Collector) AddSubscriber(s *sequin.Subscriber) { c.figures.AddSubscriber(s) }

// RemoveSubscriber removes a Subscriber. What it has counted stays in the totals of its consumer, which do not fall.
func (c *Collector) RemoveSubscriber(s *sequin.Subscriber) { c.figures.RemoveSubscriber(s) }

// figure is a metric and how it is read from T.
type figure[T any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(T) float64
}

// table makes the metrics of a part of the library, with these labels.
type table[T any] struct {
	prefix string
	labels []string
}

func (t table[T]) total(name, help string, read func(T) uint64) figure[T] {
	return figure[T]{prometheus.NewDesc(t.prefix+name+"_total", help, t.labels, nil), prometheus.CounterValue, func(v T) float64 { return float64(read(v)) }}
}

func (t table[T]) gauge(name, help string, read func(T) float64) figure[T] {
	return figure[T]{prometheus.NewDesc(t.prefix+name, help, t.labels, nil), prometheus.GaugeValue, read}
}

var (
	ofPublishers  = table[figures.Publishers]{"sequin_publisher_", []string{"stream"}}
	ofSubscribers = table[figures.Subscribers]{"sequin_subscriber_", []string{"stream", "consumer"}}
)

var publishers = []figure[figures.Publishers]{
	ofPublishers.total("accepted_messages", "Messages that Publishers have accepted.", func(p figures.Publishers) uint64 { return p.Accepted }),
	ofPublishers.total("sent_messages", "Messages that the server has accepted.", func(p figures.Publishers) uint64 { return p.Sent }),
	ofPublishers.total("failed_messages", "Messages that have failed.", func(p figures.Publishers) uint64 { return p.Failed }),
	ofPublishers.total("requests", "Requests with messages that have succeeded.", func(p figures.Publishers) uint64 { return p.Batches }),
	ofPublishers.total("sent_bytes", "Bytes of JSON in these requests.", func(p figures.Publishers) uint64 { return p.Bytes }),
	ofPublishers.total("repeated_requests", "Requests that have repeated an earlier one with the same messages.", func(p figures.Publishers) uint64 { return p.Retries }),
	{prometheus.NewDesc("sequin_publisher_blocked_seconds_total", "Time that calls have waited for room in the buffer.", []string{"stream"}, nil),
		prometheus.CounterValue, func(p figures.Publishers) float64 { return p.Blocked.Seconds() }},
	ofPublishers.gauge("buffered_messages", "Messages that wait or are in flight.", func(p figures.Publishers) float64 { return float64(p.Buffered) }),
	ofPublishers.gauge("buffered_bytes", "Size of the buffered messages.", func(p figures.Publishers) float64 { return float64(p.BufferedBytes) }),
	ofPublishers.gauge("oldest_message_seconds", "How long the oldest buffered message has been waiting.", func(p figures.Publishers) float64 { return p.OldestAge.Seconds() }),
	ofPublishers.gauge("unavailable_seconds", "For how long requests have failed, 0 if the latest has succeeded.", func(p figures.Publishers) float64 { return since(p.UnavailableSince) }),
	ofPublishers.gauge("suspended", "Publishers that neither send nor accept messages, because the server refuses the stream or the token.", func(p figures.Publishers) float64 { return float64(p.Suspended) }),
}

var subscribers = []figure[figures.Subscribers]{
	ofSubscribers.total("received_messages", "Messages that were received.", func(s figures.Subscribers) uint64 { return s.Received }),
	ofSubscribers.total("handed_out_messages", "Messages that the program has got.", func(s figures.Subscribers) uint64 { return s.HandedOut }),
	ofSubscribers.total("acked_messages", "Acks that the server has confirmed.", func(s figures.Subscribers) uint64 { return s.Acked }),
	ofSubscribers.total("nacked_messages", "Nacks that the server has confirmed.", func(s figures.Subscribers) uint64 { return s.Nacked }),
	ofSubscribers.total("expired_messages", "Messages that were returned, because nobody read them from the buffer in time.", func(s figures.Subscribers) uint64 { return s.ExpiredInBuffer }),
	ofSubscribers.total("late_settles", "Acks and nacks that were not sent, because the lease was over.", func(s figures.Subscribers) uint64 { return s.RefusedLate }),
	ofSubscribers.total("outlived_leases", "Deliveries whose handler returned after the end of their lease.", func(s figures.Subscribers) uint64 { return s.OutlivedLease }),
	ofSubscribers.total("unknown_outcomes", "Acks and nacks whose answer was lost.", func(s figures.Subscribers) uint64 { return s.UnknownOutcomes }),
	ofSubscribers.total("receives", "Receives.", func(s figures.Subscribers) uint64 { return s.Polls }),
	ofSubscribers.total("empty_receives", "Receives that have returned no message.", func(s figures.Subscribers) uint64 { return s.EmptyPolls }),
	ofSubscribers.gauge("inflight_messages", "Messages that are buffered, or with the program and not settled.", func(s figures.Subscribers) float64 { return float64(s.InFlight) }),
	ofSubscribers.gauge("oldest_message_seconds", "How long ago the oldest message was received that is not settled.", func(s figures.Subscribers) float64 { return s.OldestAge.Seconds() }),
	ofSubscribers.gauge("overdue_handlers", "Handlers that run although the lease of their delivery is over.", func(s figures.Subscribers) float64 { return float64(s.HandlersOverdue) }),
	ofSubscribers.gauge("unavailable_seconds", "For how long receives have failed, 0 if the latest has succeeded.", func(s figures.Subscribers) float64 { return since(s.UnavailableSince) }),
}

// since returns the seconds since a time, 0 for the zero time.
func since(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return time.Since(at).Seconds()
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range publishers {
		out <- f.desc
	}
	for _, f := range subscribers {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	for _, p := range c.figures.Publishers() {
		for _, f := range publishers {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.read(p), p.Stream)
		}
	}
	for _, s := range c.figures.Subscribers() {
		for _, f := range subscribers {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.read(s), s.Stream, s.Consumer)
		}
	}
}
