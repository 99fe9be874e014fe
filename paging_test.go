package sequin_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// keysOf returns the keys of a loop over all messages, and its error.
func (w *world) keysOf(ctx context.Context, opts sequin.ListOptions) (keys []string, err error) {
	for m, err := range w.client.AllMessages(ctx, "orders", opts) {
		if err != nil {
			return keys, err
		}
		keys = append(keys, m.Key)
	}
	return keys, nil
}

func TestAllMessagesReturnsEveryPage(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		empty, err := w.keysOf(w.ctx, sequin.ListOptions{})
		require.NoError(t, err)
		require.Empty(t, empty)
		w.publish(t, "k", 5)
		all := []string{"k.0", "k.1", "k.2", "k.3", "k.4"}
		for limit := range 7 {
			got, err := w.keysOf(w.ctx, sequin.ListOptions{Limit: limit})
			require.NoError(t, err)
			require.Equal(t, all, got, limit)
			got, err = w.keysOf(w.ctx, sequin.ListOptions{Limit: limit, Sort: sequin.SortDescending})
			require.NoError(t, err)
			require.Equal(t, []string{"k.4", "k.3", "k.2", "k.1", "k.0"}, got, limit)
			got, err = w.keysOf(w.ctx, sequin.ListOptions{Limit: limit, AfterSeq: 1, BeforeSeq: 5})
			require.NoError(t, err)
			require.Equal(t, all[1:4], got, limit)
			got, err = w.keysOf(w.ctx, sequin.ListOptions{Limit: limit, KeyPattern: "k.3"})
			require.NoError(t, err)
			require.Equal(t, all[3:4], got, limit)
		}
	})
}

func TestAllMessagesReturnsNothingThatIsStoredMeanwhile(t *testing.T) {
	for _, sort := range []string{"", sequin.SortAscending, sequin.SortDescending} {
		inDocumented(t, func(t *testing.T, w *world) {
			w.stream(t, "orders", sequin.ConsumerOptions{})
			w.publish(t, "old", 6)
			seen := 0
			for m, err := range w.client.AllMessages(w.ctx, "orders", sequin.ListOptions{Limit: 2, Sort: sort}) {
				require.NoError(t, err)
				require.Contains(t, m.Key, "old")
				w.publish(t, fmt.Sprint("new.", seen), 1)
				seen++
			}
			require.Equal(t, 6, seen)
		})
	}
}

func TestAllMessagesStopsWithTheLoop(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 10)
		for range w.client.AllMessages(w.ctx, "orders", sequin.ListOptions{Limit: 2}) {
			break
		}
		require.Equal(t, 2, w.Count(sequintest.ListMessages), "the newest message, and a page")
	})
}

func TestAllMessagesEndsWithTheErrorOfAPage(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 4)
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		var got []string
		var last error
		for m, err := range w.client.AllMessages(ctx, "orders", sequin.ListOptions{Limit: 2}) {
			if got, last = append(got, m.Key), err; len(got) == 2 {
				cancel()
			}
		}
		require.Equal(t, []string{"k.0", "k.1", ""}, got)
		require.ErrorIs(t, last, context.Canceled)
		for _, opts := range []sequin.ListOptions{{Limit: -1}, {AfterSeq: -1}, {BeforeSeq: -1}, {Visible: new(bool)}, {Sort: "x"}} {
			_, err := w.keysOf(w.ctx, opts)
			require.ErrorIs(t, err, sequin.ErrInvalidArgument, "%+v", opts)
		}
		require.NoError(t, w.client.DeleteStream(w.ctx, "orders"))
		_, err := w.keysOf(w.ctx, sequin.ListOptions{})
		require.ErrorIs(t, err, sequin.ErrNotFound)
	})
}

func TestBoundsAreRefusedWhereTheServerHasNone(t *testing.T) {
	refused := func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		_, err := w.keysOf(w.ctx, sequin.ListOptions{})
		require.ErrorIs(t, err, sequin.ErrUnsupported)
		for _, opts := range []sequin.ListOptions{{AfterSeq: 1}, {BeforeSeq: 1}} {
			_, err = w.client.ListMessages(w.ctx, "orders", opts)
			require.ErrorIs(t, err, sequin.ErrUnsupported)
			_, err = w.client.PeekMessages(w.ctx, "orders", "all", opts)
			require.ErrorIs(t, err, sequin.ErrUnsupported)
		}
		require.Zero(t, w.Count(sequintest.ListMessages)+w.Count(sequintest.PeekMessages))
	}
	t.Run("switched off", func(t *testing.T) { inDocumentedWithout(t, []string{"paging"}, refused) })
	t.Run("2024", func(t *testing.T) { inMode(t, server.Aug2024, refused) })
}
