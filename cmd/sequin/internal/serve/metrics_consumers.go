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

var (
	byConsumer = []string{"stream", "consumer"}

	// consumerGauges are in the order in which collectLoad sends them.
	consumerGauges = [6]*prometheus.Desc{
		prometheus.NewDesc("sequin_consumer_backlog_messages",
			"Messages that a consumer has not settled, those on lease included. The 100 consumers with the most have labels of their own, the others share the labels other.", byConsumer, nil),
		prometheus.NewDesc("sequin_consumer_backlog_estimated",
			"1 if the backlog is an estimate, by the part of the messages that the filter has matched so far; else 0.", byConsumer, nil),
		prometheus.NewDesc("sequin_consumer_outstanding_messages", "Messages on lease.", byConsumer, nil),
		prometheus.NewDesc("sequin_consumer_delayed_messages", "Messages that a nack keeps back.", byConsumer, nil),
		prometheus.NewDesc("sequin_consumer_waiting_receives", "Receives that wait for messages.", byConsumer, nil),
		prometheus.NewDesc("sequin_consumer_oldest_unsettled_seconds",
			"Age of the oldest message that is not settled, or 0. It may be too high while the backlog is an estimate.", byConsumer, nil),
	}

	// consumerCounters are in the order of consumerLabels.
	consumerCounters = [4]*prometheus.Desc{
		prometheus.NewDesc("sequin_consumer_deliveries_total",
			"Messages that a consumer was delivered. 100 consumers have labels of their own, until they are deleted, or were idle for 5 minutes while others were not. The others share the labels other.", byConsumer, nil),
		prometheus.NewDesc("sequin_consumer_redeliveries_total", "Deliveries of messages that had been delivered before.", byConsumer, nil),
		prometheus.NewDesc("sequin_consumer_acks_total", "Ack ids of requests that succeeded.", byConsumer, nil),
		prometheus.NewDesc("sequin_consumer_nacks_total", "Ack ids of nacks that succeeded, without those of messages that no program has seen.", byConsumer, nil),
	}
)

func consumerLabels(l server.ConsumerLoad) labelled {
	t := l.Traffic
	return labelled{l.ID, []string{l.Stream, l.Name}, counts{t.Deliveries, t.Redeliveries, t.Acks, t.Nacks}}
}

// collectConsumers collects the metrics of consumers. The streams are sorted, the largest first. whole is false if some may be missing.
func (m *streamMetrics) collectConsumers(out chan<- prometheus.Metric, streams []server.StreamSize, whole bool) {
	loads := m.consumerLoads(streams, whole)
	slices.SortFunc(loads, func(a, b server.ConsumerLoad) int {
		return cmp.Or(cmp.Compare(b.Backlog, a.Backlog), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Name, b.Name))
	})
	all := make([]labelled, len(loads))
	for i, l := range loads {
		all[i] = consumerLabels(l)
	}
	// Of the consumers that a slow store is not asked for nobody knows what they have counted, and a sum without them would fall.
	some := m.slow && len(streams) > maxStreamLabels
	for _, c := range m.consumers.collect(all, whole && !m.late) {
		if !some || c.id != "" {
			counters(out, consumerCounters, c)
		}
	}
	for _, l := range largestLoads(loads) {
		collectLoad(out, l)
	}
}

func collectLoad(out chan<- prometheus.Metric, l server.ConsumerLoad) {
	estimated, age := 0.0, 0.0
	if l.Estimated {
		estimated = 1
	}
	if !l.Oldest.IsZero() {
		age = max(0, time.Since(l.Oldest).Seconds())
	}
	for i, v := range [6]float64{float64(l.Backlog), estimated, float64(l.Outstanding), float64(l.Delayed), float64(l.Waiting), age} {
		gauge(out, consumerGauges[i], v, l.Stream, l.Name)
	}
}

// largestLoads returns the first of the loads, and the sum of the others, with the oldest of their messages.
func largestLoads(loads []server.ConsumerLoad) []server.ConsumerLoad {
	var largest []server.ConsumerLoad
	rest, some := server.ConsumerLoad{Stream: otherStreams, Name: otherStreams}, false
	for _, l := range loads {
		if len(largest) < maxStreamLabels && l.Stream != otherStreams {
			largest = append(largest, l)
			continue
		}
		some = true
		rest.Backlog += l.Backlog
		rest.Outstanding += l.Outstanding
		rest.Delayed += l.Delayed
		rest.Waiting += l.Waiting
		rest.Estimated = rest.Estimated || l.Estimated
		if rest.Oldest.IsZero() || !l.Oldest.IsZero() && l.Oldest.Before(rest.Oldest) {
			rest.Oldest = l.Oldest
		}
	}
	if some {
		largest = append(largest, rest)
	}
	return largest
}

// slowAtOnce is how many streams are asked at once for what their consumers have to do, of a store for which that takes some milliseconds. A
// pool has 16 connections.
const slowAtOnce = 4

// consumerLoads returns what the consumers have to do. Of a slow store it asks the largest streams only, and keeps the answer for
// usageFor, unless it lacks streams.
func (m *streamMetrics) consumerLoads(streams []server.StreamSize, whole bool) (loads []server.ConsumerLoad) {
	if !m.slow {
		for _, s := range streams {
			loads = append(loads, m.api.ConsumerLoads(context.Background(), s.ID)...)
		}
		return loads
	}
	if !m.loadedAt.IsZero() && time.Since(m.loadedAt) < usageFor {
		return slices.Clone(m.loads)
	}
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	streams = streams[:min(len(streams), maxStreamLabels)]
	found := make([][]server.ConsumerLoad, len(streams))
	turns := make(chan struct{}, slowAtOnce)
	var asked sync.WaitGroup
	for i, s := range streams {
		turns <- struct{}{}
		asked.Go(func() {
			found[i] = m.api.ConsumerLoads(ctx, s.ID)
			<-turns
		})
	}
	asked.Wait()
	m.loads, m.loadedAt, m.late = slices.Concat(found...), time.Time{}, ctx.Err() != nil
	if whole {
		m.loadedAt = time.Now()
	}
	return slices.Clone(m.loads)
}
