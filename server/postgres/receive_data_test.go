package postgres

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// sharing returns a store whose consumer counts as one that other replicas serve too, and that has no chunk in its cache. The hook
// is called once, when it reads the data of what it has leased: with the lease, or, at "data", afterwards.
func sharing(t testing.TB, at string, hook func() error) (s store.Stream, c store.Consumer) {
	schema := newSchema(t)
	s, _ = newConsumer(t, openWith(t, realTime(schema)), store.StreamOptions{})
	o := realTime(schema)
	var called atomic.Bool
	o.fault = func(point string) error {
		if point == at && !called.Swap(true) {
			return hook()
		}
		if point == "leases" {
			return errors.New("the data is read afterwards")
		}
		return nil
	}
	st := openWith(t, o)
	_, c = onReplica(t, st)
	st.engineOf(c.(*consumer).row).shared = sharedFor
	return s, c
}

// TestALeaseWhoseMessageIsGoneIsNotDelivered purges a message between the lease and the read of its data.
func TestALeaseWhoseMessageIsGoneIsNotDelivered(t *testing.T) {
	for _, at := range []string{"leases", "data"} {
		t.Run(at, func(t *testing.T) {
			var s store.Stream
			s, c := sharing(t, at, func() error {
				_, err := s.(store.ExtendedStream).Purge(t.Context(), store.PurgeQuery{Pattern: "b"})
				return err
			})
			send(t, s, store.Message{Key: "a", Data: "1"}, store.Message{Key: "b", Data: "2"}, store.Message{Key: "c", Data: "3"})
			got, err := c.Receive(t.Context(), 9, nil)
			require.NoError(t, err)
			require.Len(t, got, 2)
			require.Equal(t, []string{"a", "1", "c", "3"}, []string{got[0].Key, got[0].Data, got[1].Key, got[1].Data})
			require.NotZero(t, got[0].InsertedAt)
			require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID, got[1].ID}, store.Ack))
			state, err := c.State(t.Context())
			require.NoError(t, err)
			require.Empty(t, state.Outstanding, "the lease of the message that is gone has ended")
			require.Zero(t, state.Available)
		})
	}
}

// TestDataIsReadWithTheLease fails every read of data afterwards.
func TestDataIsReadWithTheLease(t *testing.T) {
	schema := newSchema(t)
	s, _ := newConsumer(t, openWith(t, realTime(schema)), store.StreamOptions{})
	send(t, s, store.Message{Key: "a", Data: "1"}, store.Message{Key: "b", Data: "2"})
	send(t, s, store.Message{Key: "c", Data: "3"})
	o := realTime(schema)
	o.fault = func(point string) error {
		if point == "data" {
			return store.ErrFailed
		}
		return nil
	}
	st := openWith(t, o)
	_, c := onReplica(t, st)
	st.engineOf(c.(*consumer).row).shared = sharedFor
	for _, want := range []string{"1", "2", "3"} { // the second chunk is read after the first
		got, err := c.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.Equal(t, want, got[0].Data)
	}
}

// TestAReceiveWhoseDataCannotBeReadGivesBackWhatItLeased fails after the lease.
func TestAReceiveWhoseDataCannotBeReadGivesBackWhatItLeased(t *testing.T) {
	s, c := sharing(t, "data", func() error { return store.ErrFailed })
	send(t, s, store.Message{Key: "a", Data: "1"})
	_, err := c.Receive(t.Context(), 9, nil)
	require.ErrorIs(t, err, store.ErrFailed)
	got, err := c.Receive(t.Context(), 9, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, "1", got[0].Data)
	require.Equal(t, 1, got[0].Count, "nobody had it")
}

// TestARedeliveryIsReadByItsKey leases a message again whose chunk is not in the cache.
func TestARedeliveryIsReadByItsKey(t *testing.T) {
	s, c := sharing(t, "data", func() error { return store.ErrFailed })
	send(t, s, store.Message{Key: "a", Data: "1"}, store.Message{Key: "b", Data: "2"})
	_, err := c.Receive(t.Context(), 9, nil)
	require.ErrorIs(t, err, store.ErrFailed)
	got, err := c.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Nack))
	again, err := c.Receive(t.Context(), 2, nil)
	require.NoError(t, err)
	require.Len(t, again, 2)
	require.Equal(t, []string{"1", "2"}, []string{again[0].Data, again[1].Data})
	require.Equal(t, []int{2, 1}, []int{again[0].Count, again[1].Count})
}
