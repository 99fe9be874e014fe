package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// stopped are options for a store whose clock a test sets, and which does nothing by itself.
func stopped(t testing.TB, now *time.Time) Options {
	return Options{Schema: newSchema(t), MaxConns: 4, ListenURL: "-", cleanEvery: -1, moveEvery: -1, now: func() int64 { return now.UnixMicro() }}
}

// rows returns how many rows a table has.
func rows(t testing.TB, st *Store, table string) (n int) {
	t.Helper()
	require.NoError(t, connect(t).QueryRow(t.Context(), st.q("select count(*) from {s}."+table)).Scan(&n))
	return n
}

// TestTheJanitorDeletesWhatRetentionHasDropped has it delete chunks that have no message any more, and no other.
func TestTheJanitorDeletesWhatRetentionHasDropped(t *testing.T) {
	now := time.Now()
	st := openWith(t, stopped(t, &now))
	s, c := newConsumer(t, st, store.StreamOptions{RetainUpTo: 3})
	for range 4 {
		send(t, s, store.Message{Key: "a"}, store.Message{Key: "b"})
	}
	require.NoError(t, st.clean())
	require.Equal(t, 2, rows(t, st, "chunks"), "those of the seqs 5 and 6, and of 7 and 8")
	got, err := c.Receive(t.Context(), 9, nil)
	require.NoError(t, err)
	require.EqualValues(t, 6, got[0].Seq)
}

// TestTheJanitorForgetsSendsAndDroppedMessages has time pass.
func TestTheJanitorForgetsSendsAndDroppedMessages(t *testing.T) {
	now := time.Now()
	st := openWith(t, stopped(t, &now))
	s, _ := newConsumer(t, st, store.StreamOptions{OneMessagePerKey: true, RetainUpTo: 1})
	once := store.Once{Key: "k", Body: []byte("b")}
	for _, key := range []string{"a", "b"} {
		_, err := s.Send(t.Context(), once, []store.Message{{Key: key}})
		require.NoError(t, err)
		once = store.Once{}
	}
	for _, row := range []struct {
		pass           time.Duration
		sends, dropped int
	}{{rememberFor, 3, 1}, {time.Microsecond, 0, 1}, {keepDropped - rememberFor - time.Microsecond, 0, 1}, {time.Microsecond, 0, 0}} {
		now = now.Add(row.pass)
		require.NoError(t, st.clean())
		require.Equal(t, []int{row.sends, row.dropped}, []int{rows(t, st, "sends"), rows(t, st, "dropped")}, row.pass)
	}
}

// TestTheJanitorEmptiesDeletedStreams deletes a stream that has more rows than one pass of the janitor takes.
func TestTheJanitorEmptiesDeletedStreams(t *testing.T) {
	now := time.Now()
	st := openWith(t, stopped(t, &now))
	s, c := newConsumer(t, st, store.StreamOptions{})
	send(t, s, store.Message{Key: "a"})
	for range 200 { // so that there is a snapshot
		got, err := c.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Return))
	}
	require.Equal(t, 1, rows(t, st, "snapshots"))
	_, err := connect(t).Exec(t.Context(), st.q(fmt.Sprintf(`insert into {s}.chunks (stream_id, first_seq, n, at, trim_seq, total, keys, data)
		select stream_id, i, 1, at, trim_seq, total, keys, data from {s}.chunks, generate_series(2, %d) i`, cleanRows+1)), pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	kept, err := st.CreateStream(t.Context(), store.StreamOptions{Name: "kept", OneMessagePerKey: true})
	require.NoError(t, err)
	send(t, kept, store.Message{Key: "a"})
	require.NoError(t, s.Delete(t.Context()))
	require.NoError(t, st.clean())
	require.Equal(t, 1, rows(t, st, "chunks"))
	require.Equal(t, 1, rows(t, st, "deleted_streams"), "there is more to do")
	require.NoError(t, st.clean())
	for table, want := range map[string]int{
		"chunks": 0, "ops": 0, "snapshots": 0, "consumers": 0, "deleted_streams": 0, "deleted_consumers": 0, "consumer_heads": 0,
		"latest": 1, "marks": 1, "stream_heads": 1,
	} {
		require.Equal(t, want, rows(t, st, table), table)
	}
}

// TestOneReplicaCleansAtATime has another one be at it.
func TestOneReplicaCleansAtATime(t *testing.T) {
	now := time.Now()
	st := openWith(t, stopped(t, &now))
	s, _ := newConsumer(t, st, store.StreamOptions{})
	send(t, s, store.Message{Key: "a"})
	now = now.Add(rememberFor + time.Second)
	other, err := connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), "select pg_advisory_xact_lock($1, $2::regnamespace::oid::int)", int32(janitorLock), st.schema)
	require.NoError(t, err)
	require.NoError(t, st.clean())
	require.Equal(t, 1, rows(t, st, "sends"))
	require.NoError(t, other.Rollback(t.Context()))
	require.NoError(t, st.clean())
	require.Zero(t, rows(t, st, "sends"))
}

// TestAStreamRemembersSoManySends has a stream remember three sends, beside any number of transactions. Others do not count.
func TestAStreamRemembersSoManySends(t *testing.T) {
	now := time.Now()
	o := stopped(t, &now)
	o.maxSends = 3
	st := openWith(t, o)
	s, _ := newConsumer(t, st, store.StreamOptions{})
	other, err := st.CreateStream(t.Context(), store.StreamOptions{Name: "other"})
	require.NoError(t, err)
	to := func(s store.Stream, key string) (stored bool) {
		before, err := s.Info(t.Context())
		require.NoError(t, err)
		now = now.Add(time.Second)
		_, err = s.Send(t.Context(), store.Once{Key: key, Body: []byte("b")}, []store.Message{{Key: "a"}})
		require.NoError(t, err)
		after, err := s.Info(t.Context())
		require.NoError(t, err)
		return after.Messages > before.Messages
	}
	for _, key := range []string{"1", "2", "3", "4", "5"} {
		to(s, key)
		send(t, s, store.Message{Key: "a"})
	}
	to(other, "1")
	require.NoError(t, st.clean())
	require.False(t, to(s, "3"), "it is one of the last three")
	require.False(t, to(other, "1"))
	require.True(t, to(s, "2"), "it is forgotten")
	to(s, "6")
	require.NoError(t, st.clean())
	require.False(t, to(s, "3"), "they are counted once a minute")
	st.capAt = time.Time{}
	require.NoError(t, st.clean())
	require.True(t, to(s, "3"))
}
