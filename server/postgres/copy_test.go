package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/transfer"
)

// marked waits until a stream has a mark.
func marked(t *testing.T, s store.Stream, state store.CopyState) {
	t.Helper()
	for {
		mark, err := s.(store.CopyableStream).CopyMark(t.Context())
		require.NoError(t, err)
		if mark.State == state {
			return
		}
	}
}

// TestACopyHasWhatOpenTransactionsLeave copies a stream while transactions are open: one that has called SendTx, and one that
// does not see what others commit. Later ones are refused.
func TestACopyHasWhatOpenTransactionsLeave(t *testing.T) {
	st, to := openWith(t, Options{moveEvery: -1}), openWith(t, Options{})
	s, _ := newConsumer(t, st, store.StreamOptions{})
	ctx, out := t.Context(), Outbox{Schema: st.options.Schema}
	send := func(tx pgx.Tx, key string) error { return out.SendTx(ctx, tx, "s", []sequin.Message{message(key, "")}) }
	first, err := connect(t).Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, send(first, "first"))
	second, err := connect(t).BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	_, err = second.Exec(ctx, "select 1")
	require.NoError(t, err)

	copied := make(chan error)
	go func() {
		_, err := transfer.Copy(context.WithoutCancel(ctx), st, to, transfer.Options{})
		copied <- err
	}()
	marked(t, s, store.CopySource)
	late, err := connect(t).Begin(ctx)
	require.NoError(t, err)
	err = send(late, "late")
	require.ErrorIs(t, err, ErrReadOnly)
	require.EqualError(t, err, `sequin: stream "s" takes no messages here: stream is read-only: it is being copied, or was copied, to another store`)
	require.NoError(t, late.Rollback(ctx))
	require.NoError(t, send(second, "second"), "it sees the database as it was")
	require.ErrorIs(t, st.Flush(ctx, "s"), store.ErrCopying)
	require.NoError(t, first.Commit(ctx))
	require.NoError(t, second.Commit(ctx))
	require.NoError(t, <-copied)

	found, err := to.Stream(ctx, "s")
	require.NoError(t, err)
	c, err := found.Consumer(ctx, "c")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"first=", "second="}, received(t, c))
}

// TestACopyThatWaitsForATransactionSaysForWhich ends the wait, and gives the copy up.
func TestACopyThatWaitsForATransactionSaysForWhich(t *testing.T) {
	waits := make(chan string, 1)
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) { waits <- string(p) }), nil))
	st, to := openWith(t, Options{Logger: log, sayAfter: 1}), openWith(t, Options{})
	_, c := newConsumer(t, st, store.StreamOptions{})
	conn := connect(t)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, Outbox{Schema: st.options.Schema}.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", "")}))
	ctx, cancel := context.WithCancel(t.Context())
	copied := make(chan error)
	go func() {
		_, err := transfer.Copy(ctx, st, to, transfer.Options{})
		copied <- err
	}()
	require.Contains(t, <-waits, fmt.Sprint(conn.PgConn().PID()))
	cancel()
	err = <-copied
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "of the backends ")
	require.ErrorContains(t, err, fmt.Sprint(conn.PgConn().PID()))
	_, err = transfer.Cancel(t.Context(), st, to, transfer.Options{})
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, st.Flush(t.Context(), "s"))
	require.Equal(t, []string{"k="}, received(t, c))
}

// writerFunc is a writer.
type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// TestACopyOutlivesLostAnswers copies between stores that lose the answer of every first attempt.
func TestACopyOutlivesLostAnswers(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		st, to := openWith(t, losing(t)), openWith(t, losing(t))
		s, c := newConsumer(t, st, store.StreamOptions{OneMessagePerKey: keyed})
		for i := range 20 {
			_, err := s.Send(t.Context(), store.Once{Key: fmt.Sprint(i), Body: []byte("x")}, []store.Message{{Key: fmt.Sprint("k.", i), Data: "d"}})
			require.NoError(t, err)
		}
		require.Len(t, received(t, c), 20)
		_, err := s.Send(t.Context(), store.Once{}, []store.Message{{Key: "k.0", Data: "e"}})
		require.NoError(t, err)
		report, err := transfer.Copy(t.Context(), st, to, transfer.Options{})
		require.NoError(t, err)
		want, err := s.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, []transfer.StreamReport{{Name: "s", Messages: int64(want.Messages), Bytes: want.Bytes, Consumers: 1}}, report.Streams)
		found, err := to.Stream(t.Context(), "s")
		require.NoError(t, err)
		_, err = found.Send(t.Context(), store.Once{Key: "7", Body: []byte("y")}, nil)
		require.ErrorIs(t, err, store.ErrOtherBody)
		again, err := found.Consumer(t.Context(), "c")
		require.NoError(t, err)
		require.Equal(t, []string{"k.0=e"}, received(t, again))
	}
}
