package promsequin_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/promsequin"
	"github.com/sequin-go/sequin/sequintest"
)

// world is a server in memory with a stream and a consumer, and a Collector that is registered.
type world struct {
	*sequintest.Server
	client    *sequin.Client
	collector *promsequin.Collector
	registry  *prometheus.Registry
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Server: sequintest.NewServer(t, sequintest.Config{}), collector: promsequin.NewCollector(), registry: prometheus.NewPedanticRegistry()}
	require.NoError(t, w.registry.Register(w.collector))
	c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client()})
	require.NoError(t, err)
	w.client = c
	_, err = c.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	_, err = c.CreateConsumer(t.Context(), "orders", "billing", ">", sequin.ConsumerOptions{})
	require.NoError(t, err)
	return w
}

// values returns the values of all metrics by their names, without the prefix and the labels.
func (w *world) values(t *testing.T, prefix, labels string) map[string]float64 {
	t.Helper()
	families, err := w.registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), prefix)
		if !ours {
			continue
		}
		for _, m := range f.GetMetric() {
			var all []string
			for _, l := range m.GetLabel() {
				all = append(all, l.GetName()+"="+l.GetValue())
			}
			if strings.Join(all, ",") == labels {
				got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return got
}

func TestTheMetricsOfAPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: 1, Linger: time.Hour, MaxBuffered: 3})
		require.NoError(t, err)
		w.collector.AddPublisher(pub)
		w.collector.AddPublisher(pub)
		require.Empty(t, pub.Send(t.Context(), "a", "x"))
		require.NoError(t, pub.Flush(t.Context()))
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"no"}`, Count: 1})
		require.NoError(t, pub.Send(t.Context(), "b", "x"))
		require.Error(t, pub.Flush(t.Context()))
		w.Down()
		require.NoError(t, pub.Send(t.Context(), "c", "x"))
		flushed := make(chan error)
		go func() { flushed <- pub.Flush(t.Context()) }()
		time.Sleep(time.Minute)
		got := w.values(t, "sequin_publisher_", "stream=orders")
		require.Positive(t, got["repeated_requests_total"])
		require.InDelta(t, 60, got["oldest_message_seconds"], 1)
		require.InDelta(t, 60, got["unavailable_seconds"], 1)
		require.Positive(t, got["buffered_bytes"])
		require.Positive(t, got["sent_bytes_total"])
		for _, checked := range []string{"repeated_requests_total", "oldest_message_seconds", "unavailable_seconds", "buffered_bytes", "sent_bytes_total"} {
			delete(got, checked)
		}
		require.Equal(t, map[string]float64{"accepted_messages_total": 3, "sent_messages_total": 1, "failed_messages_total": 1, "requests_total": 1,
			"blocked_seconds_total": 0, "buffered_messages": 1, "suspended": 0}, got)
		w.Up()
		require.NoError(t, <-flushed)
		require.NoError(t, w.client.DeleteStream(t.Context(), "orders"))
		require.NoError(t, pub.Send(t.Context(), "d", "x"))
		require.Error(t, pub.Flush(t.Context()))
		require.EqualValues(t, 1, w.values(t, "sequin_publisher_", "stream=orders")["suspended"])
		require.NoError(t, pub.Close(t.Context()))
	})
}

func TestTheMetricsOfASubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, err := w.client.SendMessages(t.Context(), "orders", []sequin.Message{{Key: "a"}, {Key: "b"}, {Key: "c"}})
		require.NoError(t, err)
		sub, err := w.client.Subscribe(t.Context(), "orders", "billing", sequin.SubscriberConfig{WaitFor: time.Second})
		require.NoError(t, err)
		w.collector.AddSubscriber(sub)
		require.NoError(t, (<-sub.Deliveries()).Ack())
		require.NoError(t, (<-sub.Deliveries()).NackAfter(time.Hour))
		require.NoError(t, sub.Flush(t.Context()))
		d := <-sub.Deliveries()
		time.Sleep(5 * time.Second)
		got := w.values(t, "sequin_subscriber_", "consumer=billing,stream=orders")
		require.Greater(t, got["receives_total"], got["empty_receives_total"])
		require.Positive(t, got["empty_receives_total"])
		require.InDelta(t, 5, got["oldest_message_seconds"], 0.5)
		for _, checked := range []string{"receives_total", "empty_receives_total", "oldest_message_seconds"} {
			delete(got, checked)
		}
		require.Equal(t, map[string]float64{"received_messages_total": 3, "handed_out_messages_total": 3, "acked_messages_total": 1, "nacked_messages_total": 1,
			"expired_messages_total": 0, "late_settles_total": 0, "outlived_leases_total": 0, "unknown_outcomes_total": 0, "inflight_messages": 1,
			"overdue_handlers": 0, "unavailable_seconds": 0}, got)
		require.NoError(t, d.Ack())
		require.NoError(t, sub.Close(t.Context()))
	})
}

// A registry refuses two metrics with the same labels.
func TestSeveralOfAStreamAreAddedUpAndTheirTotalsDoNotFall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var pubs []*sequin.Publisher
		var subs []*sequin.Subscriber
		for i := range 3 {
			pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: 1, Linger: time.Hour})
			require.NoError(t, err)
			w.collector.AddPublisher(pub)
			for range i + 1 {
				require.NoError(t, pub.Send(t.Context(), "k", "x"))
			}
			time.Sleep(time.Second)
			pubs = append(pubs, pub)
		}
		got := w.values(t, "sequin_publisher_", "stream=orders")
		require.EqualValues(t, 6, got["buffered_messages"])
		require.EqualValues(t, 3, got["oldest_message_seconds"])
		for _, pub := range pubs {
			require.NoError(t, pub.Close(t.Context()))
		}
		for range 2 {
			sub, err := w.client.Subscribe(t.Context(), "orders", "billing", sequin.SubscriberConfig{})
			require.NoError(t, err)
			w.collector.AddSubscriber(sub)
			subs = append(subs, sub)
		}
		time.Sleep(time.Second)
		for _, sub := range subs { // what one returns the other may receive
			require.NoError(t, sub.Close(t.Context()))
		}
		sentBefore, receivedBefore := w.values(t, "sequin_publisher_", "stream=orders")["sent_messages_total"], w.values(t, "sequin_subscriber_", "consumer=billing,stream=orders")["received_messages_total"]
		require.EqualValues(t, 6, sentBefore)
		require.Positive(t, receivedBefore)
		for _, pub := range pubs[:2] {
			w.collector.RemovePublisher(pub)
			w.collector.RemovePublisher(pub)
		}
		for _, sub := range subs {
			w.collector.RemoveSubscriber(sub)
			w.collector.RemoveSubscriber(sub)
		}
		require.Equal(t, sentBefore, w.values(t, "sequin_publisher_", "stream=orders")["sent_messages_total"])
		require.Equal(t, receivedBefore, w.values(t, "sequin_subscriber_", "consumer=billing,stream=orders")["received_messages_total"])
		require.EqualValues(t, 0, w.values(t, "sequin_subscriber_", "consumer=billing,stream=orders")["inflight_messages"])
	})
}

func TestTheNamesFollowTheRulesOfPrometheus(t *testing.T) {
	problems, err := testutil.CollectAndLint(promsequin.NewCollector())
	require.NoError(t, err)
	require.Empty(t, problems)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		w.collector.AddPublisher(pub)
		sub, err := w.client.Subscribe(t.Context(), "orders", "billing", sequin.SubscriberConfig{})
		require.NoError(t, err)
		w.collector.AddSubscriber(sub)
		problems, err = testutil.CollectAndLint(w.collector)
		require.NoError(t, err)
		require.Empty(t, problems)
		require.NoError(t, sub.Close(t.Context()))
	})
}
