package sequin_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestPurgeStreamRemovesMessages(t *testing.T) {
	for name, tt := range map[string]struct {
		opts sequin.PurgeOptions
		left []string
	}{
		"all":              {sequin.PurgeOptions{All: true}, nil},
		"below a seq":      {sequin.PurgeOptions{BeforeSeq: 3}, []string{"k.2", "k.3"}},
		"a key":            {sequin.PurgeOptions{KeyPattern: "k.1"}, []string{"k.0", "k.2", "k.3"}},
		"keys below a seq": {sequin.PurgeOptions{KeyPattern: "k.>", BeforeSeq: 2}, []string{"k.1", "k.2", "k.3"}},
		"nothing":          {sequin.PurgeOptions{KeyPattern: "x"}, []string{"k.0", "k.1", "k.2", "k.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				w.publish(t, "k", 4)
				purged, err := w.client.PurgeStream(w.ctx, "orders", tt.opts)
				require.NoError(t, err)
				require.EqualValues(t, 4-len(tt.left), purged)
				left, err := w.keysOf(w.ctx, sequin.ListOptions{})
				require.NoError(t, err)
				require.Equal(t, tt.left, left)
			})
		})
	}
}

func TestAPurgeIsNotRepeatedBlindly(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 1)
		w.Fault(sequintest.Fault{Op: sequintest.PurgeStream, CutAfter: true, Count: 1})
		_, err := w.client.PurgeStream(w.ctx, "orders", sequin.PurgeOptions{All: true})
		require.ErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.Equal(t, 1, w.Count(sequintest.PurgeStream), "a repeat would remove what was sent meanwhile")
	})
}

func TestPurgeStreamIsRefusedWhereTheServerHasNone(t *testing.T) {
	refused := func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		_, err := w.client.PurgeStream(w.ctx, "orders", sequin.PurgeOptions{All: true})
		require.ErrorIs(t, err, sequin.ErrUnsupported)
		require.Zero(t, w.Count(sequintest.PurgeStream))
	}
	t.Run("switched off", func(t *testing.T) { inDocumentedWithout(t, []string{"purge"}, refused) })
	t.Run("2024", func(t *testing.T) { inMode(t, server.Aug2024, refused) })
}

func TestPurgeStreamChecksItsArguments(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		for _, opts := range []sequin.PurgeOptions{
			{}, {All: true, BeforeSeq: 1}, {All: true, KeyPattern: "a"}, {BeforeSeq: -1}, {BeforeSeq: -1, KeyPattern: "a"},
		} {
			_, err := w.client.PurgeStream(context.Background(), "orders", opts)
			require.ErrorIs(t, err, sequin.ErrInvalidArgument, opts)
		}
		_, err := w.client.PurgeStream(w.ctx, "orders", sequin.PurgeOptions{KeyPattern: "a..b"})
		require.ErrorIs(t, err, sequin.ErrInvalidPattern)
		_, err = w.client.PurgeStream(w.ctx, "", sequin.PurgeOptions{All: true})
		require.ErrorIs(t, err, sequin.ErrInvalidArgument)
		require.Empty(t, w.Requests())
	})
}
