package sequin_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

func TestEveryMessageThatAPublisherSendsReachesASubscriber(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		sub, err := w.client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{})
		require.NoError(t, err)

		const n = 5000
		for i := range n {
			require.NoError(t, pub.Send(w.ctx, fmt.Sprintf("orders.%d", i), fmt.Sprintf(`{"n":%d}`, i)))
		}
		seen := map[string]string{}
		for d := range sub.Deliveries() {
			seen[d.Key] = d.Data
			require.NoError(t, d.Ack())
			if len(seen) == n {
				break
			}
		}
		require.NoError(t, pub.Close(w.ctx))
		require.NoError(t, sub.Close(w.ctx))
		require.NoError(t, sub.Err())
		for i := range n {
			require.Equal(t, fmt.Sprintf(`{"n":%d}`, i), seen[fmt.Sprintf("orders.%d", i)])
		}
		require.Equal(t, uint64(n), sub.Stats().Acked)
		t.Logf("%+v\n%+v", pub.Stats(), sub.Stats())
	})
}
