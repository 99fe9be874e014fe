package sequin_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestAConsumerStartsFrom(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 2)
		time.Sleep(time.Second)
		later := time.Now()
		w.publish(t, "l", 2)
		for name, tt := range map[string]struct {
			from sequin.Start
			seq  int64
		}{
			"unset": {"", 1}, "beginning": {sequin.StartBeginning, 1}, "end": {sequin.StartEnd, 5}, "seq": {sequin.StartSeq(2), 2},
			"time": {sequin.StartTime(later), 3}, "text": {"4", 4}, "future": {sequin.StartTime(later.Add(time.Hour)), 5},
		} {
			opts := sequin.ConsumerOptions{StartFrom: tt.from}
			k, err := w.client.EnsureConsumer(w.ctx, "orders", name, "", opts)
			require.NoError(t, err, name)
			require.Equal(t, tt.seq, k.StartSeq, name)
			_, err = w.client.EnsureConsumer(w.ctx, "orders", name, "", opts)
			require.NoError(t, err, name)
			got, err := w.client.ReceiveMessages(w.ctx, "orders", name, sequin.ReceiveOptions{})
			require.NoError(t, err, name)
			require.Len(t, got, int(5-tt.seq), name)
		}
	})
}

func TestEnsureConsumerComparesTheStart(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 4)
		ensure := func(name string, from sequin.Start) error {
			_, err := w.client.EnsureConsumer(w.ctx, "orders", name, "", sequin.ConsumerOptions{StartFrom: from})
			return err
		}
		require.NoError(t, ensure("late", sequin.StartSeq(3)))
		require.ErrorIs(t, ensure("late", sequin.StartSeq(2)), sequin.ErrMismatch)
		require.ErrorContains(t, ensure("late", sequin.StartBeginning), "start_seq is 3, not 1")
		require.NoError(t, ensure("late", sequin.StartEnd), "an existing consumer keeps its start")
		require.NoError(t, ensure("late", sequin.StartTime(time.Now())))
		require.NoError(t, ensure("late", ""))
		require.ErrorContains(t, ensure("beyond", sequin.StartSeq(100)), "start_seq is 5, not 100")
	})
}

func TestStartFromIsRefusedWhereConsumersStartAtTheBeginning(t *testing.T) {
	refused := func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		created := w.Count(sequintest.CreateConsumer)
		for _, from := range []sequin.Start{sequin.StartEnd, sequin.StartSeq(1), sequin.StartTime(time.Now())} {
			_, err := w.client.EnsureConsumer(w.ctx, "orders", "c", "", sequin.ConsumerOptions{StartFrom: from})
			require.ErrorIs(t, err, sequin.ErrUnsupported, from)
		}
		require.Equal(t, created, w.Count(sequintest.CreateConsumer))
		for range 2 {
			k, err := w.client.EnsureConsumer(w.ctx, "orders", "c", "", sequin.ConsumerOptions{StartFrom: sequin.StartBeginning})
			require.NoError(t, err, "every server can")
			require.Zero(t, k.StartSeq)
		}
	}
	t.Run("switched off", func(t *testing.T) { inDocumentedWithout(t, []string{"start"}, refused) })
	t.Run("2024", func(t *testing.T) { inMode(t, server.Aug2024, refused) })
}

func TestStartFromIsChecked(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		for _, from := range []sequin.Start{"now", "END", sequin.StartSeq(0), sequin.StartSeq(-1), "1.5", "2026-01-01"} {
			_, err := w.client.CreateConsumer(w.ctx, "orders", "c", ">", sequin.ConsumerOptions{StartFrom: from})
			require.ErrorIs(t, err, sequin.ErrInvalidArgument, from)
		}
		for _, from := range []sequin.Start{sequin.StartBeginning, sequin.StartEnd, sequin.StartSeq(3)} {
			_, err := w.client.UpdateConsumer(w.ctx, "orders", "c", sequin.ConsumerOptions{StartFrom: from, MaxDeliver: 3})
			require.ErrorIs(t, err, sequin.ErrInvalidArgument, "it cannot be changed")
		}
		require.Empty(t, w.Requests())
	})
}
