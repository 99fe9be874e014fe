package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// losing are options for a store that loses the answer of every first attempt.
func losing(t testing.TB) Options {
	o := realTime(newSchema(t))
	attempts := 0
	o.fault = func(string) error {
		if attempts++; attempts%2 == 1 {
			return errors.New("the connection is lost")
		}
		return nil
	}
	return o
}

func send(t testing.TB, s store.Stream, messages ...store.Message) {
	t.Helper()
	_, err := s.Send(t.Context(), store.Once{}, messages)
	require.NoError(t, err)
}

// mixed returns n messages, every second of which has a key that begins with a.
func mixed(n int) (all []store.Message) {
	for i := range n {
		all = append(all, store.Message{Key: fmt.Sprint([]string{"a.", "b."}[i%2], i), Data: fmt.Sprint(i)})
	}
	return all
}

// TestALongPurgeCountsWhatItRemoves has purges of several transactions, each of which loses its first answer.
func TestALongPurgeCountsWhatItRemoves(t *testing.T) {
	for name, tt := range map[string]struct {
		options   store.StreamOptions
		sends, of int
	}{
		"appending":   {store.StreamOptions{}, 2*purgeChunks + 1, 10},
		"one per key": {store.StreamOptions{OneMessagePerKey: true}, 1, 2*purgeRows + 10},
	} {
		t.Run(name, func(t *testing.T) {
			st := openWith(t, losing(t))
			s, c := newConsumer(t, st, tt.options)
			for range tt.sends {
				send(t, s, mixed(tt.of)...)
			}
			before, err := s.Info(t.Context())
			require.NoError(t, err)
			total := tt.sends * tt.of
			require.Equal(t, total, before.Messages)
			purged, err := s.(store.ExtendedStream).Purge(t.Context(), store.PurgeQuery{Pattern: "a.>"})
			require.NoError(t, err)
			require.Equal(t, total/2, purged)
			after, err := s.Info(t.Context())
			require.NoError(t, err)
			require.Equal(t, total/2, after.Messages)
			bytes, last := int64(0), int64(0)
			for more := true; more; {
				all, err := s.List(t.Context(), store.ListQuery{Limit: 1000, After: last})
				require.NoError(t, err)
				for _, m := range all {
					require.Equal(t, last+2, m.Seq)
					last, bytes = m.Seq, bytes+m.Size()
				}
				more = len(all) == 1000
			}
			require.EqualValues(t, total, last)
			require.Equal(t, bytes, after.Bytes)
			got, err := c.Receive(t.Context(), 5, nil)
			require.NoError(t, err)
			require.Len(t, got, 5)
			require.EqualValues(t, 2, got[0].Seq)
		})
	}
}

// TestPurgedDataIsGoneFromTheDatabase reads the rows.
func TestPurgedDataIsGoneFromTheDatabase(t *testing.T) {
	st := openWith(t, realTime(newSchema(t)))
	s, _ := newConsumer(t, st, store.StreamOptions{})
	send(t, s, store.Message{Key: "kept", Data: "hello"}, store.Message{Key: "name", Data: "secret"})
	_, err := s.(store.ExtendedStream).Purge(t.Context(), store.PurgeQuery{Pattern: "name"})
	require.NoError(t, err)
	var keys, data []byte
	require.NoError(t, connect(t).QueryRow(t.Context(), st.q("select keys, data from {s}.chunks")).Scan(&keys, &data))
	require.Contains(t, string(keys), "kept")
	require.NotContains(t, string(keys), "name")
	require.Contains(t, string(data), "hello")
	require.NotContains(t, string(data), "secret")
}

// TestAPurgeReachesOtherReplicas purges what another replica has in its memory, on lease and ready.
func TestAPurgeReachesOtherReplicas(t *testing.T) {
	for name, keyed := range map[string]bool{"appending": false, "one per key": true} {
		t.Run(name, func(t *testing.T) {
			schema := newSchema(t)
			one, two := openWith(t, realTime(schema)), openWith(t, realTime(schema))
			s, _ := newConsumer(t, one, store.StreamOptions{OneMessagePerKey: keyed})
			other, c := onReplica(t, two)
			send(t, s, store.Message{Key: "first"}, store.Message{Key: "a"}, store.Message{Key: "b"}, store.Message{Key: "c"})
			leased, err := c.Receive(t.Context(), 2, nil)
			require.NoError(t, err)
			purged, err := s.(store.ExtendedStream).Purge(t.Context(), store.PurgeQuery{Pattern: "a"})
			require.NoError(t, err)
			require.Equal(t, 1, purged)
			all, err := other.List(t.Context(), store.ListQuery{Limit: 9})
			require.NoError(t, err)
			require.Len(t, all, 3)
			extended, err := c.Extend(t.Context(), []store.ID{leased[0].ID, leased[1].ID}, time.Hour)
			require.NoError(t, err)
			require.Equal(t, []store.ID{leased[0].ID}, extended, "the lease of a is lost")
			got, err := c.Receive(t.Context(), 1, nil)
			require.NoError(t, err)
			require.Equal(t, "b", got[0].Key)
			_, err = s.(store.ExtendedStream).Purge(t.Context(), store.PurgeQuery{Pattern: "c"})
			require.NoError(t, err)
			got, err = c.Receive(t.Context(), 9, nil)
			require.NoError(t, err)
			require.Empty(t, got)
		})
	}
}

// TestAConsumerPassesOverManyPurgedChunks holds that chunks without messages do not keep a consumer from those behind them.
func TestAConsumerPassesOverManyPurgedChunks(t *testing.T) {
	st := openWith(t, realTime(newSchema(t)))
	s, c := newConsumer(t, st, store.StreamOptions{})
	send(t, s, store.Message{Key: "first"})
	const purged = 2 * scanAtMost / scanAtLeast * readChunks
	_, err := connect(t).Exec(t.Context(), st.q(fmt.Sprintf(`insert into {s}.chunks (stream_id, first_seq, n, at, trim_seq, total, keys, data, purged)
		select stream_id, i, 1, at, trim_seq, total, '\x03', '\x00', 1 from {s}.chunks, generate_series(2, %d) i`, purged+1)), pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	send(t, s, store.Message{Key: "last"})
	got, err := c.Receive(t.Context(), 9, nil)
	require.NoError(t, err)
	require.Len(t, got, 1, "one transaction reads so far only")
	got, err = c.Receive(t.Context(), 9, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, "last", got[0].Key)
	seq, err := s.(store.ExtendedStream).SeqAt(t.Context(), wallTime(got[0].InsertedAt))
	require.NoError(t, err)
	require.EqualValues(t, purged+2, seq)
}

// TestTheJanitorDeletesChunksThatAreWhollyPurged has a purge empty the chunks with which a stream begins.
func TestTheJanitorDeletesChunksThatAreWhollyPurged(t *testing.T) {
	st := openWith(t, realTime(newSchema(t)))
	s, _ := newConsumer(t, st, store.StreamOptions{})
	for _, key := range []string{"a", "a", "b", "a", "c"} {
		send(t, s, store.Message{Key: key})
	}
	_, err := s.(store.ExtendedStream).Purge(t.Context(), store.PurgeQuery{Pattern: "a"})
	require.NoError(t, err)
	require.NoError(t, st.clean())
	var chunks int
	require.NoError(t, connect(t).QueryRow(t.Context(), st.q("select count(*) from {s}.chunks")).Scan(&chunks))
	require.Equal(t, 3, chunks, "those of the seqs 3, 4 and 5 are left")
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, []any{2, int64(2)}, []any{info.Messages, info.Bytes})
}
