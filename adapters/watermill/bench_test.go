package watermillsequin_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	watermillsequin "github.com/sequin-go/sequin/adapters/watermill"
	"github.com/sequin-go/sequin/server"
)

// BenchmarkPublishAndConsume publishes and acks at the same time: 8 goroutines publish a hundred messages a call. It runs the
// adapter, with an embedded server over loopback, and Watermill's gochannel in turn, and reports the ratio of their rates.
func BenchmarkPublishAndConsume(b *testing.B) {
	client := serve(b, server.Config{})
	var ours, theirs time.Duration
	for b.Loop() {
		pub, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{Client: client}, nil)
		require.NoError(b, err)
		cfg := watermillsequin.SubscriberConfig{Client: client, ConsumerGroup: "group"}
		cfg.Handler.Workers, cfg.Subscriber.MaxInFlight = 64, 4_000
		sub, err := watermillsequin.NewSubscriber(cfg, nil)
		require.NoError(b, err)
		ours += publishAndConsume(b, pub, sub)
		channel := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 1_000}, watermill.NopLogger{})
		theirs += publishAndConsume(b, channel, channel)
	}
	messages := float64(b.N * benchCallers * benchCalls * benchSize)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(messages/ours.Seconds(), "sequin/s")
	b.ReportMetric(messages/theirs.Seconds(), "gochannel/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
}

const benchCallers, benchCalls, benchSize = 8, 125, 100

// publishAndConsume returns how long it takes from the first Publish to the last ack.
func publishAndConsume(b *testing.B, pub message.Publisher, sub message.Subscriber) time.Duration {
	topic := watermill.NewShortUUID()
	messages, err := sub.Subscribe(context.Background(), topic)
	require.NoError(b, err)
	payload := make([]byte, 100)
	for i := range payload {
		payload[i] = 'a' + byte(i%26)
	}
	begin := time.Now()
	for range benchCallers {
		go func() {
			for range benchCalls {
				batch := make([]*message.Message, benchSize)
				for i := range batch {
					batch[i] = message.NewMessage("0f8fad5b-d9cb-469f-a165-70867728950e", payload)
					batch[i].Metadata.Set("tenant", "7")
				}
				if err := pub.Publish(topic, batch...); err != nil {
					b.Error(err)
				}
			}
		}()
	}
	for range benchCallers * benchCalls * benchSize {
		(<-messages).Ack()
	}
	took := time.Since(begin)
	require.NoError(b, sub.Close())
	require.NoError(b, pub.Close())
	return took
}
