package sequin_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// publish sends n messages with keys of their own.
func (w *world) publish(t *testing.T, prefix string, n int) {
	t.Helper()
	for from := 0; from < n; from += sequin.MaxBatch {
		var batch []sequin.Message
		for i := from; i < min(n, from+sequin.MaxBatch); i++ {
			batch = append(batch, sequin.Message{Key: fmt.Sprintf("%s.%d", prefix, i), Data: fmt.Sprint(i)})
		}
		_, err := w.client.SendMessages(w.ctx, "orders", batch)
		require.NoError(t, err)
	}
}

// subscribe subscribes to the consumer of everything.
func (w *world) subscribe(t *testing.T, cfg sequin.SubscriberConfig) *sequin.Subscriber {
	t.Helper()
	sub, err := w.client.Subscribe(w.ctx, "orders", "all", cfg)
	require.NoError(t, err)
	return sub
}
