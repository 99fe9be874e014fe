package overview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// MetricsSource asks a server for its metrics in the text format of Prometheus. With names of streams it asks for what belongs to those
// streams and all their consumers, and without for what the server tells of its largest. It returns ErrNoMetrics if the server
// has none, or if the token may not read them.
type MetricsSource func(ctx context.Context, streams ...string) (io.ReadCloser, error)

// ErrNoMetrics means that a server has no metrics for this token.
var ErrNoMetrics = errors.New("the server has no metrics for this token")

// maxMetricsBytes limits an answer. Those of 100 streams and consumers take some 200 kB.
const maxMetricsBytes = 32 << 20

// HTTPMetrics returns the metrics at a server's address. A nil client means the default one. token is asked for each request, and
// returns "" for none; it may be nil.
func HTTPMetrics(client *http.Client, baseURL string, token func() (string, error)) MetricsSource {
	if client == nil {
		client = http.DefaultClient
	}
	at := strings.TrimRight(baseURL, "/") + "/metrics"
	return func(ctx context.Context, streams ...string) (io.ReadCloser, error) {
		target := at
		if len(streams) > 0 {
			target += "?" + url.Values{"stream": streams}.Encode()
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return nil, err
		}
		if token != nil {
			text, err := token()
			if err != nil {
				return nil, err
			}
			if text != "" {
				r.Header.Set("Authorization", "Bearer "+text)
			}
		}
		resp, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			return resp.Body, nil
		}
		_ = resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
			return nil, ErrNoMetrics
		}
		return nil, fmt.Errorf("GET %s: status %d", at, resp.StatusCode)
	}
}

// samples are the values of metrics, by their name and labels as key returns them.
type samples map[string]float64

// key names a metric of a stream, or of a consumer of it. The names of streams and consumers have no "/".
func key(metric string, labels ...string) string { return metric + "/" + strings.Join(labels, "/") }

// Metrics of a server that a Watcher reads.
const (
	streamSent      = "sequin_stream_sent_messages_total"
	streamDelivered = "sequin_stream_delivered_messages_total"

	consumerBacklog     = "sequin_consumer_backlog_messages"
	consumerEstimated   = "sequin_consumer_backlog_estimated"
	consumerOutstanding = "sequin_consumer_outstanding_messages"
	consumerDelayed     = "sequin_consumer_delayed_messages"
	consumerWaiting     = "sequin_consumer_waiting_receives"
	consumerOldest      = "sequin_consumer_oldest_unsettled_seconds"

	consumerDeliveries   = "sequin_consumer_deliveries_total"
	consumerRedeliveries = "sequin_consumer_redeliveries_total"
	consumerAcks         = "sequin_consumer_acks_total"
	consumerNacks        = "sequin_consumer_nacks_total"
)

// read asks for metrics.
func (source MetricsSource) read(ctx context.Context, streams ...string) (samples, error) {
	if source == nil {
		return nil, ErrNoMetrics
	}
	body, err := source(ctx, streams...)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(body, maxMetricsBytes))
	if err != nil {
		return nil, fmt.Errorf("the metrics cannot be read: %w", err)
	}
	s := samples{}
	for name, family := range families {
		if strings.HasPrefix(name, "sequin_stream_") || strings.HasPrefix(name, "sequin_consumer_") {
			s.add(name, family)
		}
	}
	return s, nil
}

func (s samples) add(name string, family *dto.MetricFamily) {
	for _, m := range family.GetMetric() {
		var stream, consumer string
		for _, l := range m.GetLabel() {
			switch l.GetName() {
			case "stream":
				stream = l.GetValue()
			case "consumer":
				consumer = l.GetValue()
			}
		}
		labels := []string{stream}
		if consumer != "" {
			labels = append(labels, consumer)
		}
		// One of them is set, and the others are 0.
		s[key(name, labels...)] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
	}
}
