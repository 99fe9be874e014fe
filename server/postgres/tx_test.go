package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver for database/sql
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server/internal/store"
)

func message(key, data string) sequin.Message { return sequin.Message{Key: key, Data: data} }

// connect returns a connection of an application.
func connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// received acks what a consumer gets, and returns it.
func received(t testing.TB, c store.Consumer) (all []string) {
	t.Helper()
	got, err := c.Receive(t.Context(), 5000, nil)
	require.NoError(t, err)
	var ids []store.ID
	for _, d := range got {
		all = append(all, d.Message.Key+"="+d.Message.Data)
		ids = append(ids, d.ID)
	}
	if len(ids) > 0 {
		require.NoError(t, c.Settle(t.Context(), ids, store.Ack))
	}
	return all
}

// TestAnEventIsSentWhenItsOrderIsCommitted holds what SendTx is for: the order and its event are stored together or not at all.
func TestAnEventIsSentWhenItsOrderIsCommitted(t *testing.T) {
	st := openWith(t, Options{moveEvery: -1})
	_, worker := newConsumer(t, st, store.StreamOptions{})
	conn, ctx, out := connect(t), t.Context(), Outbox{Schema: st.options.Schema}
	_, err := conn.Exec(ctx, "create temporary table orders (id int)")
	require.NoError(t, err)
	order := func(id int) pgx.Tx {
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, "insert into orders values ($1)", id)
		require.NoError(t, err)
		require.NoError(t, out.SendTx(ctx, tx, "s", []sequin.Message{message(fmt.Sprint("orders.", id), "placed"), message(fmt.Sprint("mails.", id), "")}))
		require.NoError(t, st.Flush(ctx, "s"))
		require.Empty(t, received(t, worker), "the transaction is open")
		return tx
	}
	require.NoError(t, order(1).Rollback(ctx))
	require.NoError(t, st.Flush(ctx, "s"))
	require.Empty(t, received(t, worker), "the order was rolled back")
	require.NoError(t, order(2).Commit(ctx))
	require.Empty(t, received(t, worker), "nothing has moved it")
	require.NoError(t, st.Flush(ctx, "s"))
	require.Equal(t, []string{"orders.2=placed", "mails.2="}, received(t, worker))
	require.NoError(t, st.Flush(ctx, "s"))
	require.Empty(t, received(t, worker), "it is sent once")
}

// TestDatabaseSQLSendsInATransaction holds SendSQLTx, and many messages in one call: they are several rows that keep their order.
func TestDatabaseSQLSendsInATransaction(t *testing.T) {
	st := openWith(t, Options{moveEvery: -1})
	_, worker := newConsumer(t, st, store.StreamOptions{})
	require.NoError(t, must(worker.Update(t.Context(), store.ConsumerLimits{AckWait: time.Minute, MaxAckPending: 10000, MaxWaiting: 5})))
	db, err := sql.Open("pgx", databaseURL)
	require.NoError(t, err)
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var messages []sequin.Message
	var want []string
	for i := range 2*chunkMessages + 1 {
		messages = append(messages, message(fmt.Sprint("k", i), "d"))
		want = append(want, fmt.Sprintf("k%d=d", i))
	}
	require.NoError(t, Outbox{Schema: st.options.Schema}.SendSQLTx(t.Context(), tx, "s", messages))
	require.NoError(t, tx.Commit())
	require.NoError(t, st.Flush(t.Context(), "s"))
	require.Equal(t, want, received(t, worker))
}

func must[T any](_ T, err error) error { return err }

// TestHeadersAreSentInATransaction holds headers, in both kinds of streams.
func TestHeadersAreSentInATransaction(t *testing.T) {
	for name, keyed := range map[string]bool{"appending": false, "one per key": true} {
		t.Run(name, func(t *testing.T) {
			st := openWith(t, Options{moveEvery: -1})
			s, _ := newConsumer(t, st, store.StreamOptions{OneMessagePerKey: keyed})
			headed := sequin.Message{Key: "k", Data: "d", Headers: map[string]string{"trace": "1", "b": ""}}
			require.NoError(t, pgx.BeginFunc(t.Context(), connect(t), func(tx pgx.Tx) error {
				return Outbox{Schema: st.options.Schema}.SendTx(t.Context(), tx, "s", []sequin.Message{headed, message("plain", "d")})
			}))
			require.NoError(t, st.Flush(t.Context(), "s"))
			all, err := s.List(t.Context(), store.ListQuery{Limit: 9})
			require.NoError(t, err)
			require.Equal(t, headed.Headers, all[0].Headers.Map())
			require.Empty(t, all[1].Headers)
		})
	}
}

// TestTheNewestVersionIsSent holds SendTx to a stream with one message for each key.
func TestTheNewestVersionIsSent(t *testing.T) {
	st := openWith(t, Options{moveEvery: -1})
	_, worker := newConsumer(t, st, store.StreamOptions{OneMessagePerKey: true})
	conn, out := connect(t), Outbox{Schema: st.options.Schema}
	for _, data := range []string{"1", "2", "3"} {
		require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			return out.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", "old"), message("k", data)})
		}))
	}
	require.NoError(t, st.Flush(t.Context(), "s"))
	require.Equal(t, []string{"k=3"}, received(t, worker))
}

// TestAReplicaSendsWhatATransactionLeft holds that a replica looks by itself.
func TestAReplicaSendsWhatATransactionLeft(t *testing.T) {
	st := openWith(t, Options{moveEvery: time.Millisecond})
	_, worker := newConsumer(t, st, store.StreamOptions{})
	place, err := worker.Queue(t.Context())
	require.NoError(t, err)
	defer place.Leave()
	require.NoError(t, pgx.BeginFunc(t.Context(), connect(t), func(tx pgx.Tx) error {
		return Outbox{Schema: st.options.Schema}.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", "d")})
	}))
	<-place.Ready()
	require.Equal(t, []string{"k=d"}, received(t, worker))
}

// TestTheOutboxOfADeletedStreamIsEmptied holds that what nobody can get is deleted.
func TestTheOutboxOfADeletedStreamIsEmptied(t *testing.T) {
	st := openWith(t, Options{moveEvery: -1, cleanEvery: -1})
	s, _ := newConsumer(t, st, store.StreamOptions{})
	conn := connect(t)
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		return Outbox{Schema: st.options.Schema}.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", "d")})
	}))
	require.NoError(t, st.clean())
	left := func() (n int) {
		require.NoError(t, conn.QueryRow(t.Context(), st.q("select count(*) from {s}.staged")).Scan(&n))
		return n
	}
	require.Equal(t, 1, left(), "the stream is there")
	require.NoError(t, s.Delete(t.Context()))
	require.NoError(t, st.clean())
	require.Zero(t, left())
	require.ErrorIs(t, st.Flush(t.Context(), "s"), ErrNoStream)
}

// TestSendTxRefusesWhatNoServerWouldTake holds its errors.
func TestSendTxRefusesWhatNoServerWouldTake(t *testing.T) {
	st := openWith(t, Options{moveEvery: -1})
	newConsumer(t, st, store.StreamOptions{})
	tx, err := connect(t).Begin(t.Context())
	require.NoError(t, err)
	out := Outbox{Schema: st.options.Schema}
	for _, row := range []struct {
		bad  sequin.Message
		want error
	}{
		{message("", "d"), sequin.ErrInvalidKey}, {message("a..b", "d"), sequin.ErrInvalidKey}, {message("a.", "d"), sequin.ErrInvalidKey},
		{message("a b", "d"), sequin.ErrInvalidKey}, {message("a.*", "d"), sequin.ErrInvalidKey}, {message("ä", "d"), sequin.ErrInvalidKey},
		{message(strings.Repeat("k", 256), "d"), sequin.ErrInvalidKey}, {message(strings.Repeat("k.", 16)+"k", "d"), sequin.ErrInvalidKey},
		{message("k", "\xff"), sequin.ErrInvalidData}, {message("k", "a\x00"), sequin.ErrInvalidData},
		{message("k", strings.Repeat("x", sequin.MaxRequestBytes)), sequin.ErrTooLarge},
	} {
		err := out.SendTx(t.Context(), tx, "s", []sequin.Message{message("fine", ""), row.bad})
		require.ErrorIs(t, err, row.want, "%.40q", row.bad.Key)
		require.ErrorContains(t, err, "message 2 of 2")
	}
	for _, bad := range []map[string]string{{"a b": "v"}, {"": "v"}, {"n": "\xff"}, {"n": "a\x00"}, {"n": strings.Repeat("x", sequin.MaxHeaderBytes)}} {
		err := out.SendTx(t.Context(), tx, "s", []sequin.Message{message("fine", ""), {Key: "k", Headers: bad}})
		require.ErrorIs(t, err, sequin.ErrInvalidHeaders, "%.40q", bad)
		require.ErrorContains(t, err, "message 2 of 2")
	}
	require.NoError(t, out.SendTx(t.Context(), tx, "s", nil))
	err = out.SendTx(t.Context(), tx, "other", []sequin.Message{message("k", "d")})
	require.ErrorIs(t, err, ErrNoStream)
	require.ErrorContains(t, err, `there is no stream "other"`)
	_, err = tx.Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	require.ErrorContains(t, out.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", "d")}), `cannot leave messages for stream "s"`)
}

// TestWhatAFullStreamRefusesStaysInTheOutbox holds that a stream that is full loses nothing: the rows stay until there is room.
func TestWhatAFullStreamRefusesStaysInTheOutbox(t *testing.T) {
	st := openWith(t, Options{moveEvery: -1})
	s, worker := newConsumer(t, st, store.StreamOptions{MaxBytes: 10, RetainAtLeast: 10})
	conn := connect(t)
	for _, data := range []string{"12345678", "9"} {
		require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			return Outbox{Schema: st.options.Schema}.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", data)})
		}))
	}
	require.ErrorIs(t, st.Flush(t.Context(), "s"), store.ErrFull)
	require.Equal(t, []string{"k=12345678"}, received(t, worker))
	left := 0
	require.NoError(t, conn.QueryRow(t.Context(), st.q("select count(*) from {s}.staged")).Scan(&left))
	require.Equal(t, 1, left)
	_, err := s.Send(t.Context(), store.Once{}, []store.Message{{Key: "k"}})
	require.NoError(t, err, "it fits, and the outbox keeps nobody back")
}

// TestWhatAStreamCanNeverHoldIsRefused holds that no message waits for room that there will never be.
func TestWhatAStreamCanNeverHoldIsRefused(t *testing.T) {
	st := openWith(t, Options{moveEvery: -1})
	_, worker := newConsumer(t, st, store.StreamOptions{MaxBytes: 10, RetainAtLeast: 10})
	out := Outbox{Schema: st.options.Schema}
	require.NoError(t, pgx.BeginFunc(t.Context(), connect(t), func(tx pgx.Tx) error {
		err := out.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", "1234567890")})
		require.ErrorIs(t, err, sequin.ErrTooLarge)
		require.ErrorContains(t, err, `stream "s" may hold less than the 11 bytes of these messages`)
		return out.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", "123456789")})
	}))
	require.NoError(t, st.Flush(t.Context(), "s"))
	require.Equal(t, []string{"k=123456789"}, received(t, worker))
	db, err := sql.Open("pgx", databaseURL)
	require.NoError(t, err)
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.ErrorIs(t, out.SendSQLTx(t.Context(), tx, "s", []sequin.Message{message("k", "1234567890")}), sequin.ErrTooLarge)
	require.ErrorIs(t, out.SendSQLTx(t.Context(), tx, "t", []sequin.Message{message("k", "1")}), ErrNoStream)
	require.NoError(t, tx.Rollback())
}

// TestAMoveThatFailsIsLoggedOnceAMinute holds that a full stream does not fill the log: a replica tries ten times a second.
func TestAMoveThatFailsIsLoggedOnceAMinute(t *testing.T) {
	var text bytes.Buffer
	f := moveFailures{log: slog.New(slog.NewTextHandler(&text, nil))}
	now := time.Now()
	f.note(now, nil)
	for i := range 600 {
		f.note(now.Add(time.Duration(i)*moveEvery), store.ErrFull)
	}
	require.Equal(t, 1, strings.Count(text.String(), `level=WARN msg="messages of SendTx are not sent yet; it is tried again" error="stream is full"`))
	f.note(now.Add(time.Minute), store.ErrFull)
	f.note(now.Add(time.Minute), nil)
	f.note(now.Add(time.Minute), nil)
	f.note(now.Add(time.Minute), store.ErrFull)
	require.Equal(t, 3, strings.Count(text.String(), "not sent yet"))
	require.Equal(t, 1, strings.Count(text.String(), `level=INFO msg="the messages of SendTx are sent again"`))
	require.Equal(t, 4, strings.Count(text.String(), "\n"))
}

// TestALostAnswerOfTheMoveSendsNothingTwice loses the connection after the messages are sent and before the replica knows.
func TestALostAnswerOfTheMoveSendsNothingTwice(t *testing.T) {
	lost := 1
	st := openWith(t, Options{moveEvery: -1, fault: func(point string) error {
		if point != "published" || lost == 0 {
			return nil
		}
		lost--
		return io.ErrUnexpectedEOF
	}})
	_, worker := newConsumer(t, st, store.StreamOptions{})
	require.NoError(t, pgx.BeginFunc(t.Context(), connect(t), func(tx pgx.Tx) error {
		return Outbox{Schema: st.options.Schema}.SendTx(t.Context(), tx, "s", []sequin.Message{message("k", "d")})
	}))
	require.NoError(t, st.Flush(t.Context(), "s"))
	require.Zero(t, lost)
	require.Equal(t, []string{"k=d"}, received(t, worker))
}
