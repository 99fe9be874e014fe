package postgres

import (
	bigendian "encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// shared returns the engine of a consumer at a replica, which counts it as one that other replicas serve too.
func shared(c store.Consumer) *engine {
	e := c.(*consumer).engine()
	e.shared = sharedFor
	return e
}

// unseen is a consumer at two replicas, of which the second has not looked at it and settles without a look.
type unseen struct {
	s          store.Stream
	one, other store.Consumer
	got        []store.Delivery // what the first has received, one message for each key
}

func newUnseen(t testing.TB, o Options, keys ...string) *unseen {
	o.Schema = newSchema(t)
	u := &unseen{}
	u.s, u.one = newConsumer(t, openWith(t, o), store.StreamOptions{})
	_, u.other = onReplica(t, openWith(t, o))
	shared(u.other)
	for _, key := range keys {
		send(t, u.s, store.Message{Key: key})
	}
	u.got = u.receive(t)
	require.Len(t, u.got, len(keys))
	return u
}

func (u *unseen) receive(t testing.TB) []store.Delivery {
	t.Helper()
	got, err := u.one.Receive(t.Context(), 9, nil)
	require.NoError(t, err)
	return got
}

// settle settles a delivery at the second replica.
func (u *unseen) settle(t testing.TB, d store.Delivery, how store.Settlement) {
	t.Helper()
	require.NoError(t, u.other.Settle(t.Context(), []store.ID{d.ID}, how))
	require.Nil(t, u.other.(*consumer).engine().state, "it has looked")
}

// outstanding returns the keys that the first replica knows to be on lease.
func (u *unseen) outstanding(t testing.TB) (keys []string) {
	t.Helper()
	state, err := u.one.State(t.Context())
	require.NoError(t, err)
	for _, v := range state.Outstanding {
		keys = append(keys, v.Key)
	}
	return keys
}

func TestASettleWithoutALookEndsWhatIsOnLease(t *testing.T) {
	u := newUnseen(t, realTime(""), "a", "b", "c")
	u.settle(t, u.got[0], store.Ack)
	require.Equal(t, []string{"b", "c"}, u.outstanding(t))
	u.settle(t, u.got[1], store.Nack)
	u.settle(t, u.got[2], store.Return)
	again := u.receive(t)
	require.Len(t, again, 2)
	require.Equal(t, []int{2, 1}, []int{again[0].Count, again[1].Count})
	u.settle(t, u.got[1], store.Ack) // its lease has ended
	u.settle(t, u.got[2], store.Nack)
	require.Equal(t, []string{"b", "c"}, u.outstanding(t))
}

func TestASettleWithoutALookComesTooLate(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMicro())
	o := realTime("")
	o.now = now.Load
	u := newUnseen(t, o, "a")
	now.Add(time.Minute.Microseconds())
	u.settle(t, u.got[0], store.Ack)
	require.Len(t, u.receive(t), 1, "the lease had ended")
	require.Equal(t, []string{"a"}, u.outstanding(t))
}

// TestASettleWithoutALookWhoseAnswerIsLostIsDoneOnce nacks at a replica that stores the nack again.
func TestASettleWithoutALookWhoseAnswerIsLostIsDoneOnce(t *testing.T) {
	var lose atomic.Bool
	o := realTime("")
	o.fault = func(string) error {
		if lose.Swap(false) {
			return errors.New("the connection is lost")
		}
		return nil
	}
	u := newUnseen(t, o, "a", "b")
	lose.Store(true)
	u.settle(t, u.got[0], store.Return)
	require.False(t, lose.Load())
	again := u.receive(t)
	require.Len(t, again, 1)
	require.Equal(t, 1, again[0].Count)
}

func TestASettleWithoutALookIsRefused(t *testing.T) {
	u := newUnseen(t, realTime(""), "a")
	ids := []store.ID{u.got[0].ID}
	copied := u.s.(store.CopyableStream)
	require.NoError(t, copied.SetCopyMark(t.Context(), store.CopyMark{State: store.CopySource, Peer: "x"}))
	require.ErrorIs(t, u.other.Settle(t.Context(), ids, store.Ack), store.ErrCopying)
	require.NoError(t, copied.SetCopyMark(t.Context(), store.CopyMark{}))
	require.Equal(t, []string{"a"}, u.outstanding(t))
	require.NoError(t, u.one.Delete(t.Context()))
	shared(u.other)
	require.ErrorIs(t, u.other.Settle(t.Context(), ids, store.Ack), store.ErrNoConsumer)
}

// TestSettlesWithoutALookLeaveSnapshots settles the same delivery again and again, which changes nothing, and looks without the lock.
func TestSettlesWithoutALookLeaveSnapshots(t *testing.T) {
	u := newUnseen(t, realTime(""), "a")
	for range 4 * unseenInARow {
		shared(u.other)
		require.NoError(t, u.other.Settle(t.Context(), []store.ID{u.got[0].ID}, store.Ack))
		_, err := u.other.(store.Measured).Measure(t.Context())
		require.NoError(t, err)
	}
	var ops, snapshots int
	schema := quoted(u.one.(*consumer).st.options.Schema)
	require.NoError(t, connect(t).QueryRow(t.Context(), "select (select count(*) from "+schema+".ops), (select count(*) from "+schema+".snapshots)").Scan(&ops, &snapshots))
	require.Equal(t, 1, snapshots)
	require.Less(t, ops, 3*unseenInARow)
	require.Empty(t, u.outstanding(t))
}

// TestAReplicaIsNotOthers settles without a look until the replica counts as the only one.
func TestAReplicaIsNotOthers(t *testing.T) {
	u := newUnseen(t, realTime(""), "a")
	e := shared(u.other)
	for range sharedFor + 1 {
		send(t, u.s, store.Message{Key: "b"}, store.Message{Key: "c"})
		got, err := u.other.Receive(t.Context(), 2, nil)
		require.NoError(t, err)
		for _, d := range got { // two decisions of its own between two looks
			require.NoError(t, u.other.Settle(t.Context(), []store.ID{d.ID}, store.Ack))
		}
	}
	require.Zero(t, e.shared)
	u.one.(*consumer).engine().shared = 0
	require.NoError(t, u.one.Settle(t.Context(), []store.ID{u.got[0].ID}, store.Ack))
	require.Empty(t, u.receive(t))
	require.Equal(t, sharedFor, u.one.(*consumer).engine().shared+1, "the others have decided before its ack")
}

// TestTimeDoesNotGoBack applies a decision with a clock that is behind.
func TestTimeDoesNotGoBack(t *testing.T) {
	s := newState(false)
	later := binary.AppendInt([]byte{opFormat}, 5_000_000)
	require.NoError(t, s.apply(1, 1, later))
	for at, want := range map[uint64]int64{4_000: 5_000_000, 6_000: 6_000_000} {
		s.now = 5_000_000
		body := bigendian.BigEndian.AppendUint64([]byte{opFormatUnseen}, at)
		require.NoError(t, s.apply(s.n+1, 1, body))
		require.Equal(t, want, s.now)
	}
	require.Error(t, s.apply(s.n+1, 1, []byte{opFormatUnseen, 0, 0, 0}))
}

func TestASettleWithoutALookWakesWhoWaits(t *testing.T) {
	u := newUnseen(t, realTime(""), "a")
	place, err := u.one.Queue(t.Context())
	require.NoError(t, err)
	defer place.Leave()
	for looks := true; looks; { // the look at the beginning finds nothing
		require.Equal(t, []string{"a"}, u.outstanding(t))
		p := &u.one.(*consumer).engine().places
		p.mu.Lock()
		looks = p.looking
		p.mu.Unlock()
	}
	u.settle(t, u.got[0], store.Nack)
	select {
	case <-place.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("nothing wakes it")
	}
}
