package simtest

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server/durable"
)

// TestASettleDuringACrashIsOneRequest crashes the store at the write of an ack. The store makes the ack again when it is open,
// but the client has sent it once, and the journal, which the checks of the simulation read, has it once.
func TestASettleDuringACrashIsOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var srv *sequintest.Server
		cut := func() { srv.CutConnections() }
		c, err := open(durable.Options{MinFree: -1}, 1, rand.New(rand.NewPCG(1, 1)), cut, t.Logf)
		require.NoError(t, err)
		defer c.Close()
		srv = sequintest.NewServer(t, sequintest.Config{Store: c, WithoutExtensions: []string{"fenced-acks"}})
		defer srv.Close()
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		_, err = client.CreateStream(ctx, "s", sequin.StreamOptions{OneMessagePerKey: true})
		require.NoError(t, err)
		_, err = client.CreateConsumer(ctx, "s", "c", ">", sequin.ConsumerOptions{})
		require.NoError(t, err)
		_, err = client.SendMessage(ctx, "s", "key", "data")
		require.NoError(t, err)
		m, err := client.ReceiveMessage(ctx, "s", "c")
		require.NoError(t, err)

		c.mu.Lock()
		c.next = 1
		c.mu.Unlock()
		require.ErrorIs(t, client.AckMessage(ctx, "s", "c", m.AckID), sequin.ErrOutcomeUnknown)
		synctest.Wait()
		require.Zero(t, c.crashes, "the store has crashed")
		require.Equal(t, 1, srv.Count(sequintest.Ack))
		state, found := srv.Stream("s")
		require.True(t, found)
		require.Empty(t, state.Consumers[0].Outstanding)
		require.Zero(t, state.Consumers[0].Available, "the ack was made on the store that was opened")
	})
}
