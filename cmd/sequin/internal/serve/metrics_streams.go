package serve

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sequin-go/sequin/server"
)

// maxStreamLabels is how many streams have metrics of their own. It bounds what Prometheus has to keep, because a program may
// create any number of streams.
const maxStreamLabels = 100

// otherStreams is the label of all other streams.
const otherStreams = "other"

var (
	streamsDesc        = prometheus.NewDesc("sequin_streams", "Streams.", nil, nil)
	streamMessagesDesc = prometheus.NewDesc("sequin_stream_messages",
		"Messages of a stream. The 100 streams with the most have a label of their own, the others share the label other.", []string{"stream"}, nil)
	streamBytesDesc = prometheus.NewDesc("sequin_stream_bytes",
		"Bytes of the keys and data of a stream's messages, with the labels of sequin_stream_messages.", []string{"stream"}, nil)
)

// streamMetrics collects the sizes of the streams at the moment of the question.
type streamMetrics struct{ api *server.Server }

func (streamMetrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- streamsDesc
	descs <- streamMessagesDesc
	descs <- streamBytesDesc
}

func (m streamMetrics) Collect(out chan<- prometheus.Metric) {
	sizes := m.api.StreamSizes()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(streamsDesc, float64(len(sizes)))
	for _, s := range largestStreams(sizes) {
		gauge(streamMessagesDesc, float64(s.Messages), s.Name)
		gauge(streamBytesDesc, float64(s.Bytes), s.Name)
	}
}

// largestStreams returns the streams with the most messages, and the sum of the others. A stream whose name is that of the
// others is one of them, so that each label occurs once.
func largestStreams(sizes []server.StreamSize) []server.StreamSize {
	slices.SortFunc(sizes, func(a, b server.StreamSize) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
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
