package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// realTime are options for stores that use the clock of the database.
func realTime(schema string) Options {
	return Options{Schema: schema, MaxConns: 8, lookEvery: time.Hour, cleanEvery: -1}
}

func newConsumer(t testing.TB, st store.Store, o store.StreamOptions) (store.Stream, store.Consumer) {
	t.Helper()
	o.Name = "s"
	s, err := st.CreateStream(t.Context(), o)
	require.NoError(t, err)
	c, err := s.CreateConsumer(t.Context(), store.ConsumerOptions{Name: "c", Filter: ">", ConsumerLimits: store.ConsumerLimits{
		AckWait: time.Minute, MaxAckPending: 1000, MaxWaiting: 5,
	}})
	require.NoError(t, err)
	return s, c
}

func onReplica(t testing.TB, st *Store) (store.Stream, store.Consumer) {
	t.Helper()
	s, err := st.Stream(t.Context(), "s")
	require.NoError(t, err)
	c, err := s.Consumer(t.Context(), "c")
	require.NoError(t, err)
	return s, c
}

// TestALostAnswerRepeatsNothing loses the answer of each kind of transaction once, after it was stored.
func TestALostAnswerRepeatsNothing(t *testing.T) {
	for name, keyed := range map[string]bool{"appending": false, "one per key": true} {
		t.Run(name, func(t *testing.T) {
			var lose atomic.Bool
			o := realTime(newSchema(t))
			o.fault = func(string) error {
				if lose.Swap(false) {
					return errors.New("the connection is lost")
				}
				return nil
			}
			st := openWith(t, o)
			s, c := newConsumer(t, st, store.StreamOptions{OneMessagePerKey: keyed, ProcessUnmodified: true})
			lose.Store(true)
			n, err := s.Send(t.Context(), store.Once{}, []store.Message{{Key: "a", Data: "1"}, {Key: "b", Data: "2"}})
			require.NoError(t, err)
			require.Equal(t, 2, n)
			all, err := s.List(t.Context(), store.ListQuery{Limit: 9})
			require.NoError(t, err)
			require.Equal(t, []int64{1, 2}, []int64{all[0].Seq, all[1].Seq})
			require.Len(t, all, 2)

			lose.Store(true)
			got, err := c.Receive(t.Context(), 1, nil)
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.Equal(t, 1, got[0].Count)
			state, err := c.State(t.Context())
			require.NoError(t, err)
			require.Len(t, state.Outstanding, 1, "the receive that is not known to be stored leased no second message")

			lose.Store(true)
			require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Ack))
			state, err = c.State(t.Context())
			require.NoError(t, err)
			require.Empty(t, state.Outstanding)
			require.Equal(t, 1, state.Available)
		})
	}
}

// TestNotificationsWakeOtherReplicas has the other replica look by itself once an hour only.
func TestNotificationsWakeOtherReplicas(t *testing.T) {
	schema := newSchema(t)
	one, two := openWith(t, realTime(schema)), openWith(t, realTime(schema))
	s, c := newConsumer(t, one, store.StreamOptions{})
	_, other := onReplica(t, two)
	place, err := other.Queue(t.Context())
	require.NoError(t, err)
	defer place.Leave()
	called := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		select {
		case <-place.Ready():
		case <-ctx.Done():
			t.Fatalf("%s does not wake the other replica", what)
		}
	}
	_, err = s.Send(t.Context(), store.Once{}, []store.Message{{Key: "a"}})
	require.NoError(t, err)
	called("a send")
	got, err := c.Receive(t.Context(), 1, nil) // this replica is faster
	require.NoError(t, err)
	require.Len(t, got, 1)
	none, err := place.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Empty(t, none)
	require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Nack))
	called("a nack")
	got, err = place.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)

	place, err = other.Queue(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context()))
	called("a deletion")
	_, err = place.Receive(t.Context(), 1, nil)
	require.ErrorIs(t, err, store.ErrNoConsumer)
}

// TestKilledBackendsLoseAndRepeatNothing ends all connections of two replicas again and again while they work.
func TestKilledBackendsLoseAndRepeatNothing(t *testing.T) {
	schema := newSchema(t)
	one, two := openWith(t, realTime(schema)), openWith(t, realTime(schema))
	s, c := newConsumer(t, one, store.StreamOptions{})
	s2, c2 := onReplica(t, two)
	const senders, sends = 4, 25
	var acked atomic.Int64
	sent, received := make(chan struct{}, senders), make(chan struct{})
	for i := range senders {
		go func() {
			for n := range sends {
				to := []store.Stream{s, s2}[n%2]
				_, err := to.Send(context.Background(), store.Once{}, []store.Message{{Key: fmt.Sprint("k", i), Data: fmt.Sprint(n)}})
				assert.NoError(t, err)
			}
			sent <- struct{}{}
		}()
	}
	last := map[string]int{}
	go func() {
		defer close(received)
		for n := 0; acked.Load() < senders*sends; n++ {
			from := []store.Consumer{c, c2}[n%2]
			got, err := from.Receive(context.Background(), 3, nil)
			if !assert.NoError(t, err) {
				return
			}
			for _, d := range got {
				var data int
				_, _ = fmt.Sscan(d.Data, &data)
				assert.Equal(t, last[d.Key], data, "messages of a key come in order, each once")
				last[d.Key]++
				assert.Equal(t, 1, d.Count)
				assert.NoError(t, from.Settle(context.Background(), []store.ID{d.ID}, store.Ack))
				acked.Add(1)
			}
		}
	}()
	for range senders {
		execute(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sequin' and pid <> pg_backend_pid()")
		<-sent
	}
	execute(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sequin' and pid <> pg_backend_pid()")
	<-received
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, senders*sends, info.Messages)
}

// TestASendWhoseAnswerWasLostWakesWhoWaits has a waiting receive look by itself once an hour only.
func TestASendWhoseAnswerWasLostWakesWhoWaits(t *testing.T) {
	st := openWith(t, losing(t))
	s, c := newConsumer(t, st, store.StreamOptions{})
	place, err := c.Queue(t.Context())
	require.NoError(t, err)
	defer place.Leave()
	send(t, s, store.Message{Key: "a"})
	select {
	case <-place.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("nothing wakes it")
	}
}

// logOf returns a function that returns how much the log of the database has grown since its last call, in bytes.
func logOf(t *testing.T) (grown func() int64) {
	conn, last := connect(t), int64(0)
	return func() int64 {
		before := last
		require.NoError(t, conn.QueryRow(t.Context(), "select pg_current_wal_insert_lsn() - '0/0'").Scan(&last))
		return last - before
	}
}

// requests is how many a test makes that looks at the log. One takes about 100 bytes of it for the lock, and as much again for a
// flush, so that most is what one without a flush takes at most.
const requests, most = 200, 150

func TestAReceiveThatFindsNothingWaitsForNoDisk(t *testing.T) {
	st := openWith(t, Options{moveEvery: -1, cleanEvery: -1})
	_, c := newConsumer(t, st, store.StreamOptions{})
	grown := logOf(t)
	grown()
	for range requests {
		got, err := c.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.Empty(t, got)
	}
	require.Less(t, grown(), int64(requests*most))
}

// TestAnAckThatFindsNothingLeftWaitsForTheDisk repeats an ack. Another replica may have stored the first one, and not flushed it
// yet: a crash of the database then takes both.
func TestAnAckThatFindsNothingLeftWaitsForTheDisk(t *testing.T) {
	st := openWith(t, Options{moveEvery: -1, cleanEvery: -1})
	s, c := newConsumer(t, st, store.StreamOptions{})
	send(t, s, store.Message{Key: "a"})
	got, err := c.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	ack := func() { require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Ack)) }
	ack()
	grown := logOf(t)
	grown()
	for range requests {
		ack()
	}
	require.Greater(t, grown(), int64(requests*most))
}
