package sequinpubsub

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/pubsub/drivertest"
	"gocloud.dev/pubsub/mempubsub"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// BenchmarkSequin runs the benchmarks of the CDK over loopback, for comparison with BenchmarkMempubsub in the same run.
func BenchmarkSequin(b *testing.B) {
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
	drivertest.RunBenchmarks(b, topic, sub)
}

// BenchmarkMempubsub runs them with the CDK's driver that keeps its messages in the process.
func BenchmarkMempubsub(b *testing.B) {
	topic := mempubsub.NewTopic()
	drivertest.RunBenchmarks(b, topic, mempubsub.NewSubscription(topic, time.Minute))
}
