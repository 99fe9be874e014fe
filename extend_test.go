package sequin_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestExtendMessagesExtendsLeases(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		w.publish(t, "k", 2)
		got, err := w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})
		require.NoError(t, err)
		require.NoError(t, w.client.AckMessage(w.ctx, "orders", "all", got[0].AckID))
		time.Sleep(9 * time.Second)
		ids := []string{got[0].AckID, got[1].AckID}
		extended, err := w.client.ExtendMessages(w.ctx, "orders", "all", time.Minute, ids)
		require.NoError(t, err)
		require.Equal(t, ids[1:], extended, "the other was settled")
		time.Sleep(time.Minute - 1)
		again, err := w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})
		require.NoError(t, err)
		require.Empty(t, again)
		time.Sleep(time.Nanosecond)
		extended, err = w.client.ExtendMessages(w.ctx, "orders", "all", time.Minute, ids)
		require.NoError(t, err)
		require.Empty(t, extended, "the lease has ended")
	})
}

func TestALostExtensionIsRepeated(t *testing.T) {
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Minute})
				w.publish(t, "k", 1)
				m, err := w.client.ReceiveMessage(w.ctx, "orders", "all")
				require.NoError(t, err)
				loss.Op, loss.Count = sequintest.Extend, 1
				w.Fault(loss)
				extended, err := w.client.ExtendMessages(w.ctx, "orders", "all", time.Hour, []string{m.AckID})
				require.NoError(t, err)
				require.Equal(t, []string{m.AckID}, extended)
				require.Equal(t, 2, w.Count(sequintest.Extend))
			})
		})
	}
}

func TestExtendMessagesIsRefusedWhereLeasesCannotBeExtended(t *testing.T) {
	refused := func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		_, err := w.client.ExtendMessages(w.ctx, "orders", "all", time.Second, []string{someID})
		require.ErrorIs(t, err, sequin.ErrUnsupported)
		require.Zero(t, w.Count(sequintest.Extend))
	}
	t.Run("switched off", func(t *testing.T) { inDocumentedWithout(t, []string{"extend"}, refused) })
	t.Run("2024", func(t *testing.T) { inMode(t, server.Aug2024, refused) })
}

func TestExtendMessagesChecksItsArguments(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		for _, wait := range []time.Duration{0, -1, time.Millisecond - 1, sequin.MaxExtension + 1} {
			_, err := w.client.ExtendMessages(w.ctx, "orders", "all", wait, []string{someID})
			require.ErrorIs(t, err, sequin.ErrInvalidArgument, wait)
		}
		_, err := w.client.ExtendMessages(w.ctx, "orders", "all", time.Second, nil)
		require.ErrorIs(t, err, sequin.ErrInvalidArgument)
		_, err = w.client.ExtendMessages(w.ctx, "orders", "all", time.Second, []string{"x"})
		require.ErrorIs(t, err, sequin.ErrInvalidAckID)
		_, err = w.client.ExtendMessages(w.ctx, "orders", "", time.Second, []string{someID})
		require.ErrorIs(t, err, sequin.ErrInvalidArgument)
		require.Empty(t, w.Requests())
	})
}
