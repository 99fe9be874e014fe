package sequin_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// Where a server says that an ack id belongs to one delivery, a repeated ack or nack can settle nothing else.
func TestOneShotSettlesAreRepeatedWhereAckIDsBelongToOneDelivery(t *testing.T) {
	for _, row := range []struct {
		name  string
		cfg   sequintest.Config
		fresh bool // the Client has seen no answer
		want  int
	}{
		{"announced", sequintest.Config{}, false, 4},
		{"announced, and not seen yet", sequintest.Config{}, true, 1},
		{"switched off", sequintest.Config{WithoutExtensions: []string{"fenced-acks"}}, false, 1},
		{"parts alone switched off", sequintest.Config{WithoutExtensions: []string{"parts"}}, false, 4},
		{"2024", sequintest.Config{Compat: server.Aug2024}, false, 1},
	} {
		for _, fault := range []sequintest.Fault{{CutAfter: true}, {Status: 503, Acted: true}, {Status: 403, Body: "<html>"}, {Status: 504, Body: ownRefusal},
			{Status: 200, Body: "<html>"}} {
			for _, op := range []sequintest.Op{sequintest.Ack, sequintest.Nack} {
				t.Run(strings.Join([]string{row.name, op.String()}, " "), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, row.cfg, sequin.Config{})
						w.stream(t, "s", sequin.ConsumerOptions{})
						c := w.client
						if row.fresh {
							var err error
							c, err = sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client()})
							require.NoError(t, err)
						}
						call := c.AckMessage
						if op == sequintest.Nack {
							call = c.NackMessage
						}
						fault.Op = op
						w.Fault(fault)
						require.ErrorIs(t, call(w.ctx, "s", "all", someID), sequin.ErrOutcomeUnknown)
						require.Equal(t, row.want, w.Count(op))
					})
				})
			}
		}
	}
}

func TestARepeatedSettleSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := prepared(t, sequin.Config{})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, CutAfter: true, Count: 2})
		require.NoError(t, w.client.AckMessage(w.ctx, "s", "all", someID))
		require.Equal(t, 3, w.Count(sequintest.Ack))
	})
}

// The outcome of the first attempt stays unknown, whatever the second one is told.
func TestALostSettleStaysUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := prepared(t, sequin.Config{})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, CutAfter: true, Count: 1})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 404, Body: ownRefusal})
		err := w.client.AckMessage(w.ctx, "s", "all", someID)
		require.ErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.Equal(t, 2, w.Count(sequintest.Ack))
	})
}

// A proxy answers 503 after the server behind it has acted on an ack. Meanwhile another producer replaces the message, and
// another worker receives the new version.
func TestAForeign503DoesNotProveThatAnAckWasNotCarriedOut(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		_, err := w.client.SendMessage(w.ctx, "s", "k", "older")
		require.NoError(t, err)
		m, err := w.client.ReceiveMessage(w.ctx, "s", "all")
		require.NoError(t, err)
		acted := w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503, Body: "upstream connect error", Acted: true, Count: 1})
		acked := make(chan error, 1)
		go func() { acked <- w.client.AckMessage(w.ctx, "s", "all", m.AckID) }()
		require.NoError(t, acted.Wait(w.ctx, 1))
		_, err = w.client.SendMessage(w.ctx, "s", "k", "newer")
		require.NoError(t, err)
		_, err = w.client.ReceiveMessage(w.ctx, "s", "all")
		require.NoError(t, err)
		require.ErrorIs(t, <-acked, sequin.ErrOutcomeUnknown)
		time.Sleep(time.Minute) // the lease of the other worker ends
		again, err := w.client.ReceiveMessage(w.ctx, "s", "all")
		require.NoError(t, err)
		require.NotNil(t, again, "the newer version was removed, and nobody has handled it")
		require.Equal(t, "newer", again.Data)
	})
}

func TestAForeign503MayHaveCreatedOrDeletedAStream(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		for _, op := range []sequintest.Op{sequintest.CreateStream, sequintest.DeleteStream} {
			w.Fault(sequintest.Fault{Op: op, Status: 503, Body: "upstream connect error", Acted: true, Count: 1})
		}
		_, err := w.client.CreateStream(w.ctx, "s", sequin.StreamOptions{})
		require.ErrorIs(t, err, sequin.ErrOutcomeUnknown)
		var api *sequin.APIError
		require.True(t, errors.As(err, &api) && api.Foreign)
		require.ErrorIs(t, w.client.DeleteStream(w.ctx, "s"), sequin.ErrOutcomeUnknown)
		_, exists := w.Stream("s")
		require.False(t, exists)
	})
}
