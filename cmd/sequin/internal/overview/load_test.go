package overview_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/sequintest"
)

func TestTheMetricsTellWhichConsumersAreBehind(t *testing.T) {
	watch(t, sequintest.Config{}, func(w *watched) {
		for _, name := range []string{"idle", "payments"} {
			_, err := w.client.CreateStream(w.Context(), name, sequin.StreamOptions{})
			require.NoError(w, err)
		}
		_, err := w.client.CreateConsumer(w.Context(), "payments", "mail", ">", sequin.ConsumerOptions{})
		require.NoError(w, err)
		require.Empty(w, w.streams().Loads)
		require.False(w, w.streams().Streams[0].BacklogKnown)

		time.Sleep(overview.DefaultMinInterval)
		w.metrics = `sequin_consumer_backlog_messages{stream="orders",consumer="billing"} 7
sequin_consumer_backlog_messages{stream="orders",consumer="mail"} 9
sequin_consumer_backlog_estimated{stream="orders",consumer="mail"} 1
sequin_consumer_outstanding_messages{stream="orders",consumer="mail"} 3
sequin_consumer_delayed_messages{stream="orders",consumer="mail"} 2
sequin_consumer_waiting_receives{stream="orders",consumer="mail"} 1
sequin_consumer_oldest_unsettled_seconds{stream="orders",consumer="mail"} 61.5
`
		got := w.streams()
		require.Equal(w, []overview.Load{
			{Stream: "orders", Consumer: "mail", Backlog: 9, Estimated: true, Outstanding: 3, Delayed: 2, Waiting: 1, OldestAge: 61500 * time.Millisecond},
			{Stream: "orders", Consumer: "billing", Backlog: 7},
		}, got.Loads)
		backlogs := func(s *overview.Streams) (known map[string]int64) {
			known = map[string]int64{}
			for _, of := range s.Streams {
				if of.BacklogKnown {
					known[of.Name] = of.Backlog
				}
			}
			return known
		}
		require.Equal(w, map[string]int64{"orders": 9, "idle": 0}, backlogs(got), "nothing tells of the consumer of payments")

		time.Sleep(overview.DefaultMinInterval)
		w.metrics += `sequin_consumer_backlog_messages{stream="other",consumer="other"} 5` + "\n"
		got = w.streams()
		require.Len(w, got.Loads, 2)
		require.Equal(w, map[string]int64{"orders": 9, "idle": 0}, backlogs(got), "payments has a consumer that is one of the others")
	})
}
