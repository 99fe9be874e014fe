package otelsequin_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/otelsequin"
	"github.com/sequin-go/sequin/sequintest"
)

func TestTheMetricsOfTheConventions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, nil)
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: `{"summary":"busy"}`, Count: 1})
		_, err := w.client.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a"}, {Key: "b"}, {Key: "c"}})
		require.NoError(t, err)
		time.Sleep(4 * time.Second)
		w.handle(t, 3, func(_ context.Context, d sequin.Delivery) error {
			time.Sleep(time.Second)
			if d.Key == "b" {
				return errors.New("no")
			}
			return nil
		})
		const consumer = "messaging.consumer.group.name=billing,"
		const send, failed = "messaging.operation.name=send,messaging.operation.type=send", "error.type=503,messaging.operation.name=send,messaging.operation.type=send"
		require.Equal(t, map[string]float64{send: 3, failed: 3}, w.collected(t, "messaging.client.sent.messages"))
		require.Equal(t, map[string]float64{consumer + "messaging.operation.name=receive,messaging.operation.type=receive": 3}, w.collected(t, "messaging.client.consumed.messages"))
		require.Equal(t, map[string]float64{consumer + "messaging.operation.name=process": 2, "error.type=*errors.errorString," + consumer + "messaging.operation.name=process": 1},
			w.collected(t, "messaging.process.duration"))
		got := w.collected(t, "messaging.client.operation.duration")
		require.EqualValues(t, 1, got[send])
		require.EqualValues(t, 1, got[failed])
		require.EqualValues(t, 1, got[consumer+"messaging.operation.name=receive,messaging.operation.type=receive"], "without those that return nothing")
		require.Positive(t, got[consumer+"messaging.operation.name=ack,messaging.operation.type=settle"])
		require.Positive(t, got[consumer+"messaging.operation.name=nack,messaging.operation.type=settle"])
		require.Len(t, got, 5)
		require.Equal(t, map[string]float64{consumer + "messaging.operation.name=ack": 2, consumer + "messaging.operation.name=nack": 1}, w.collected(t, "sequin.client.settled.messages"))
		require.InDelta(t, 4, w.collected(t, "sequin.client.lag")["messaging.consumer.group.name=billing"], 0.5)
	})
}

func TestTheMetricsOfBatchesAndStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, nil)
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Linger: time.Hour, Lanes: 1})
		require.NoError(t, err)
		gauges, err := otelsequin.NewGauges(w.meters)
		require.NoError(t, err)
		gauges.AddPublisher(pub)
		require.NoError(t, pub.Send(w.ctx, "a", ""))
		require.NoError(t, pub.Flush(w.ctx))
		require.Equal(t, map[string]float64{"sequin.batch.reason=flush": 1}, w.collected(t, "sequin.client.batches"))
		w.Down()
		require.NoError(t, pub.Send(w.ctx, "b", ""))
		flushed := make(chan error)
		go func() { flushed <- pub.Flush(w.ctx) }()
		time.Sleep(time.Minute)
		require.Equal(t, map[string]float64{"sequin.state=unavailable": 1}, w.collected(t, "sequin.client.states"))
		require.Equal(t, map[string]float64{"": 1}, w.collected(t, "sequin.publisher.buffered.messages"))
		require.Positive(t, w.collected(t, "sequin.publisher.buffered.size")[""])
		require.InDelta(t, 60, w.collected(t, "sequin.publisher.oldest.age")[""], 1)
		require.InDelta(t, 60, w.collected(t, "sequin.publisher.unavailable.time")[""], 1)
		w.Up()
		require.NoError(t, <-flushed)
		synctest.Wait()
		require.Equal(t, map[string]float64{"sequin.state=unavailable": 0}, w.collected(t, "sequin.client.states"))
		require.Equal(t, map[string]float64{"": 0}, w.collected(t, "sequin.publisher.unavailable.time"))
		require.NoError(t, pub.Close(w.ctx))
		gauges.RemovePublisher(pub)
		require.Equal(t, map[string]float64{"": 0}, w.collected(t, "sequin.publisher.buffered.messages"))
		require.NoError(t, gauges.Unregister())
		require.Empty(t, w.collected(t, "sequin.publisher.buffered.messages"))
	})
}

func TestTheGaugesOfASubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, nil)
		_, err := w.client.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a"}, {Key: "b"}})
		require.NoError(t, err)
		sub, err := w.client.Subscribe(w.ctx, "orders", "billing", sequin.SubscriberConfig{})
		require.NoError(t, err)
		gauges, err := otelsequin.NewGauges(w.meters)
		require.NoError(t, err)
		gauges.AddSubscriber(sub)
		d := <-sub.Deliveries()
		time.Sleep(5 * time.Second)
		const of = "messaging.consumer.group.name=billing"
		require.Equal(t, map[string]float64{of: 2}, w.collected(t, "sequin.subscriber.inflight.messages"))
		require.InDelta(t, 5, w.collected(t, "sequin.subscriber.oldest.age")[of], 1)
		require.Equal(t, map[string]float64{of: 0}, w.collected(t, "sequin.subscriber.overdue.handlers"))
		require.Equal(t, map[string]float64{of: 0}, w.collected(t, "sequin.subscriber.unavailable.time"))
		require.NoError(t, d.Ack())
		require.NoError(t, sub.Close(w.ctx))
		gauges.RemoveSubscriber(sub)
		require.Equal(t, map[string]float64{of: 0}, w.collected(t, "sequin.subscriber.inflight.messages"))
		require.NoError(t, gauges.Unregister())
	})
}

func TestLostLeasesAndExpiredMessagesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, nil)
		h := otelsequin.Hooks(otelsequin.Options{TracerProvider: w.traces, MeterProvider: w.meters})
		h.State(sequin.StateInfo{Stream: "orders", Consumer: "billing", State: sequin.StateLeaseLost, Messages: 3})
		h.State(sequin.StateInfo{Stream: "orders", Consumer: "billing", State: sequin.StateExpired, Messages: 4})
		const of = "messaging.consumer.group.name=billing"
		require.Equal(t, map[string]float64{of: 3}, w.collected(t, "sequin.client.lost.leases"))
		require.Equal(t, map[string]float64{of: 4}, w.collected(t, "sequin.client.expired.messages"))
		require.Empty(t, w.collected(t, "sequin.client.states"))
	})
}
