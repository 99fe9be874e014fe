package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// TestADrainLastsAsLongAsTheBacklogShrinks acks one message every 50 seconds until some are left, and then no more.
func TestADrainLastsAsLongAsTheBacklogShrinks(t *testing.T) {
	for name, left := range map[string]int{"to the end": 0, "with a rest": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := sequintest.NewServer(t, sequintest.Config{})
				client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
				require.NoError(t, err)
				defer client.Close()
				_, err = client.CreateStream(t.Context(), streamName, sequin.StreamOptions{})
				require.NoError(t, err)
				for _, consumer := range consumers {
					_, err = client.CreateConsumer(t.Context(), streamName, consumer, consumer+".*", sequin.ConsumerOptions{})
					require.NoError(t, err)
				}
				for _, key := range []string{"1", "2", "3", "4"} {
					_, err = client.SendMessage(t.Context(), streamName, consumers[0]+"."+key, "")
					require.NoError(t, err)
				}
				go ackSlowly(t, client, 4-left)
				began := time.Now()
				err = waitUntilDrained(t.Context(), client)
				require.GreaterOrEqual(t, time.Since(began), time.Duration(4-left)*50*time.Second)
				if left == 0 {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, "billing has messages left: at least 2")
				require.Less(t, time.Since(began), 100*time.Second+drainTimeout+2*drainPoll+time.Second)
			})
		})
	}
}

func ackSlowly(t *testing.T, client *sequin.Client, n int) {
	for range n {
		time.Sleep(50 * time.Second)
		m, err := client.ReceiveMessage(t.Context(), streamName, consumers[0])
		if err != nil || m == nil {
			t.Errorf("receive: %v, %v", m, err)
			return
		}
		if err := client.AckMessage(t.Context(), streamName, consumers[0], m.AckID); err != nil {
			t.Errorf("ack: %v", err)
		}
	}
}
