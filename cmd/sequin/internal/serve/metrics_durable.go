package serve

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sequin-go/sequin/server/durable"
)

// syncTimes are the upper bounds of the histogram, in seconds. An SSD with a cache that survives a loss of power takes less than 0.1 ms,
// a disk some 10 ms, and an overloaded volume of a cloud seconds.
var syncTimes = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}

func newSyncTimes() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "sequin_store_sync_seconds", Help: "Time of each sync of the log of the store in a directory.", Buckets: syncTimes,
	})
}

var (
	storeBytesDesc    = prometheus.NewDesc("sequin_store_bytes", "Bytes of the log of the store in a directory.", nil, nil)
	storeSegmentsDesc = prometheus.NewDesc("sequin_store_segments", "Files of the log of the store in a directory.", nil, nil)
	storeKeysDesc     = prometheus.NewDesc("sequin_store_keys", "Keys in memory, of streams that keep one message per key.", nil, nil)
	storeKeyBytesDesc = prometheus.NewDesc("sequin_store_key_bytes", "About how much memory those keys take.", nil, nil)
	storeOpeningDesc  = prometheus.NewDesc("sequin_store_open_seconds", "Time that it took to open the store and to replay its log.", nil, nil)
)

// durableMetrics collects the figures of a store in a directory.
type durableMetrics struct {
	info    func() durable.Info
	opening time.Duration
}

// Describe implements prometheus.Collector.
func (durableMetrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{storeBytesDesc, storeSegmentsDesc, storeKeysDesc, storeKeyBytesDesc, storeOpeningDesc} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (m durableMetrics) Collect(out chan<- prometheus.Metric) {
	i := m.info()
	for d, v := range map[*prometheus.Desc]float64{
		storeBytesDesc: float64(i.DiskBytes), storeSegmentsDesc: float64(i.Segments), storeKeysDesc: float64(i.Keys),
		storeKeyBytesDesc: float64(i.KeyBytes), storeOpeningDesc: m.opening.Seconds(),
	} {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
}
