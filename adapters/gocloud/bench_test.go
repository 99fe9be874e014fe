package sequinpubsub

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/drivertest"
	"gocloud.dev/pubsub/mempubsub"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// BenchmarkSequin runs the benchmarks of the CDK over loopback, for comparison with BenchmarkMempubsub in the same run. In that of Send
// the subscription receives, too.
func BenchmarkSequin(b *testing.B) {
	topic, sub := openBoth(b)
	drivertest.RunBenchmarks(b, topic, sub)
}

// BenchmarkMempubsub runs them with the CDK's driver that keeps its messages in the process.
func BenchmarkMempubsub(b *testing.B) {
	topic := mempubsub.NewTopic()
	drivertest.RunBenchmarks(b, topic, mempubsub.NewSubscription(topic, time.Minute))
}

// BenchmarkSendAlone sends as the benchmark of the CDK does, while nobody receives: 10,000 messages from 100 goroutines.
func BenchmarkSendAlone(b *testing.B) {
	b.Run("driver=sequin", func(b *testing.B) {
		topic, _ := openBoth(b)
		sendAll(b, topic)
	})
	b.Run("driver=mempubsub", func(b *testing.B) {
		topic := mempubsub.NewTopic()
		mempubsub.NewSubscription(topic, time.Minute) // without one there is a warning for each message
		sendAll(b, topic)
	})
}

// openBoth opens a stream of a new server, and its consumer.
func openBoth(b *testing.B) (*pubsub.Topic, *pubsub.Subscription) {
	url, stop, err := serve(server.Config{})
	require.NoError(b, err)
	client, err := sequin.NewClient(sequin.Config{BaseURL: url})
	require.NoError(b, err)
	b.Cleanup(func() { client.Close(); _ = stop() })
	_, err = client.CreateStream(b.Context(), "s", sequin.StreamOptions{})
	require.NoError(b, err)
	_, err = client.CreateConsumer(b.Context(), "s", "c", ">", sequin.ConsumerOptions{})
	require.NoError(b, err)
	topic, err := OpenTopic(client, "s", nil)
	require.NoError(b, err)
	sub, err := OpenSubscription(client, "s", "c", nil)
	require.NoError(b, err)
	return topic, sub
}

func sendAll(b *testing.B, topic *pubsub.Topic) {
	const messages, senders = 10_000, 100
	body, metadata := []byte("hello, world"), map[string]string{"label": "value"}
	for b.Loop() {
		var group sync.WaitGroup
		for range senders {
			group.Go(func() {
				for range messages / senders {
					if err := topic.Send(b.Context(), &pubsub.Message{Metadata: metadata, Body: body}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
	}
}
