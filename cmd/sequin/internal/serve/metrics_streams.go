package serve

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sequin-go/sequin/server"
)

// maxStreamLabels is how many streams have metrics of their own, and how many consumers. It bounds what Prometheus has to keep, because a program
// may create any number of streams.
const maxStreamLabels = 100

// otherStreams is the label of all other streams, and of all other consumers.
const otherStreams = "other"

var (
	byStream = []string{"stream"}

	streamsDesc        = prometheus.NewDesc("sequin_streams", "Streams.", nil, nil)
	streamMessagesDesc = prometheus.NewDesc("sequin_stream_messages",
		"Messages of a stream. The 100 streams with the most have a label of their own, the others share the label other.", byStream, nil)
	streamBytesDesc = prometheus.NewDesc("sequin_stream_bytes",
		"Bytes of the keys, headers and data of a stream's messages, with the labels of sequin_stream_messages.", byStream, nil)

	// streamCounters are in the order of streamCounts.
	streamCounters = [4]*prometheus.Desc{
		prometheus.NewDesc("sequin_stream_sent_messages_total",
			"Messages that were sent to a stream. 100 streams have a label of their own, until they are deleted, or were idle for 5 minutes while others were not. The others share the label other.", byStream, nil),
		prometheus.NewDesc("sequin_stream_sent_bytes_total",
			"Bytes of the keys, headers and data of those messages.", byStream, nil),
		prometheus.NewDesc("sequin_stream_delivered_messages_total",
			"Messages that all consumers of a stream were delivered, with the labels of sequin_stream_sent_messages_total.", byStream, nil),
		prometheus.NewDesc("sequin_stream_delivered_bytes_total",
			"Bytes of the keys, headers and data of those messages.", byStream, nil),
	}
)

func streamCounts(t server.StreamTraffic) counts {
	return counts{t.Sent, t.SentBytes, t.Delivered, t.DeliveredBytes}
}

// sizedStreams is what streamMetrics asks: a *server.Server.
type sizedStreams interface {
	StreamSizes(context.Context) ([]server.StreamSize, error)
	StreamSize(ctx context.Context, stream string) (server.StreamSize, bool)
	ConsumerLoads(ctx context.Context, stream string) []server.ConsumerLoad
}

// streamMetrics collects the sizes of the streams and what their consumers have to do, at the moment of the question.
type streamMetrics struct {
	api  sizedStreams
	slow bool

	mu        sync.Mutex // guards what follows; held while the store is asked, so that it is asked once
	streams   labels
	consumers labels
	loads     []server.ConsumerLoad // of a slow store
	loadedAt  time.Time
	late      bool // some loads did not come in time
}

func newStreamMetrics(api sizedStreams, slow bool) *streamMetrics {
	return &streamMetrics{api: api, slow: slow, streams: newLabels(), consumers: newLabels()}
}

// Describe implements prometheus.Collector.
func (*streamMetrics) Describe(descs chan<- *prometheus.Desc) { describeStreams(descs) }

func describeStreams(descs chan<- *prometheus.Desc) {
	descs <- streamsDesc
	descs <- streamMessagesDesc
	descs <- streamBytesDesc
	for _, d := range slices.Concat(streamCounters[:], consumerCounters[:], consumerGauges[:]) {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (m *streamMetrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	sizes, err := m.api.StreamSizes(ctx)
	cancel()
	slices.SortFunc(sizes, func(a, b server.StreamSize) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
	if err == nil {
		gauge(out, streamsDesc, float64(len(sizes)))
	}
	for _, s := range largestStreams(sizes) {
		gauge(out, streamMessagesDesc, float64(s.Messages), s.Name)
		gauge(out, streamBytesDesc, float64(s.Bytes), s.Name)
	}
	all := make([]labelled, len(sizes))
	for i, s := range sizes {
		all[i] = labelled{s.ID, []string{s.Name}, streamCounts(s.Traffic)}
	}
	for _, c := range m.streams.collect(all, err == nil) {
		counters(out, streamCounters, c)
	}
	m.collectConsumers(out, sizes, err == nil)
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counters(out chan<- prometheus.Metric, descs [4]*prometheus.Desc, c labelled) {
	for i, d := range descs {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(c.counts[i]), c.names...)
	}
}

// largestStreams returns the first of the sizes, and the sum of the others. A stream whose name is that of the others is one of
// them, so that each label occurs once.
func largestStreams(sizes []server.StreamSize) []server.StreamSize {
	var largest []server.StreamSize
	rest, some := server.StreamSize{Name: otherStreams}, false
	for _, s := range sizes {
		if len(largest) < maxStreamLabels && s.Name != otherStreams {
			largest = append(largest, s)
			continue
		}
		rest.Messages, rest.Bytes, some = rest.Messages+s.Messages, rest.Bytes+s.Bytes, true
	}
	if some {
		largest = append(largest, rest)
	}
	return largest
}

// namedStreams collects the metrics of some streams and of all their consumers.
type namedStreams struct {
	all   *streamMetrics
	ctx   context.Context
	names []string
}

// Describe implements prometheus.Collector.
func (namedStreams) Describe(descs chan<- *prometheus.Desc) { describeStreams(descs) }

// Collect implements prometheus.Collector.
func (n namedStreams) Collect(out chan<- prometheus.Metric) {
	for _, name := range n.names {
		s, ok := n.all.api.StreamSize(n.ctx, name)
		if !ok || s.Name != name { // it was found by its id: its name may be asked for, too
			continue
		}
		loads := n.all.api.ConsumerLoads(n.ctx, s.ID)
		gauge(out, streamMessagesDesc, float64(s.Messages), s.Name)
		gauge(out, streamBytesDesc, float64(s.Bytes), s.Name)
		n.all.mu.Lock()
		counters(out, streamCounters, n.all.streams.one(labelled{s.ID, []string{s.Name}, streamCounts(s.Traffic)}))
		n.all.mu.Unlock()
		for _, l := range loads {
			n.all.mu.Lock()
			c := n.all.consumers.one(consumerLabels(l))
			n.all.mu.Unlock()
			counters(out, consumerCounters, c)
			collectLoad(out, l)
		}
	}
}
