package backlog

import (
	"testing"

	"github.com/stretchr/testify/require"

	wire "github.com/sequin-go/sequin/server/internal/binary"
)

// losing runs f, and loses what it has recorded: the backlog afterwards is that of before, in the next opening.
func (w *world) losing(f func()) {
	before := w.live.AppendTo(nil)
	f()
	w.live, w.replay = Read(w.stream, wire.NewReader(before)), Read(w.stream, wire.NewReader(before))
	w.reopen()
}

// TestAnAckCountsWhenTheLeaseWasLost acks deliveries whose records a loss of power has taken.
func TestAnAckCountsWhenTheLeaseWasLost(t *testing.T) {
	w := newWorld(t, 1, 100, false)
	a, b, c := keyOf(0), keyOf(1), keyOf(2)
	w.stream.keys = []Hash{a, a, a, b, c, c}
	w.receive(3) // 1, 4 and 5; 2, 3 are met
	w.settle(Nack, w.leases[1])
	var lost []Delivery
	w.losing(func() {
		w.settle(Ack, w.leases[0])
		w.receive(1) // 2
		w.receive(1) // 4 again
		lost = append(lost, w.leases[3:]...)
		w.settle(Ack, w.leases[2])
		w.receive(1) // 6
		lost = append(lost, w.leases[5])
	})
	require.Equal(t, []int64{2, 4, 6}, []int64{lost[0].Seq, lost[1].Seq, lost[2].Seq})
	w.settle(Nack, lost...)
	require.Equal(t, 1, w.live.Ready(), "a nack of a lost lease changes nothing")
	w.settle(Ack, lost...)
	require.Zero(t, w.live.Ready(), "4 is acked")
	require.Equal(t, 1, w.live.Met(), "2 is acked")
	w.settle(Ack, w.leases[0], w.leases[2]) // 1 and 5, which are still on lease
	got := w.receive(10)
	require.Equal(t, []Leased{{Seq: 3, Count: 1}}, got, "6 is acked though it was never read again")
	w.check()
	w.drain()
}

// TestAnAckOfAnEarlierOpeningIsRefused when the message was leased since, or sent since.
func TestAnAckOfAnEarlierOpeningIsRefused(t *testing.T) {
	w := newWorld(t, 1, 100, false)
	w.stream.keys = []Hash{keyOf(0), keyOf(1)}
	w.losing(func() {
		w.receive(1)
		w.stream.keys = append(w.stream.keys, keyOf(2))
		w.receive(2)
		w.stream.keys = w.stream.keys[:2]
	})
	old := w.leases
	require.Len(t, old, 3)
	w.send() // takes the seq of the message that was lost
	w.settle(Ack, Delivery{3, old[2].Lease})
	require.False(t, w.live.SettledAhead(3))
	got := w.receive(1)
	require.Equal(t, []Leased{{Seq: 1, Count: 1}}, got)
	w.settle(Ack, old[0])
	w.settle(Nack, Delivery{1, w.live.lease})
	w.settle(Ack, old[0])
	require.Equal(t, 1, w.live.Ready(), "it was leased since")
	w.settle(Ack, Delivery{0, old[0].Lease}, Delivery{-1, old[0].Lease}, Delivery{9, old[0].Lease})
	require.Empty(t, w.live.ahead)
}

// TestALeaseOfAnEarlierOpeningEndsInTime sets the clock back by an hour between two openings.
func TestALeaseOfAnEarlierOpeningEndsInTime(t *testing.T) {
	w := newWorld(t, 1, 100, false)
	w.now = 3600
	w.stream.keys = []Hash{keyOf(0), keyOf(1)}
	w.receive(1)
	w.now += 10
	w.receive(1)
	w.now = 0
	w.reopen()
	at, out := w.live.NextExpiry()
	require.True(t, out)
	require.Equal(t, int64(30), at)
	w.settle(Ack, w.leases[1])
	w.now = 30
	require.Equal(t, []Leased{{Seq: 1, Count: 2, Expired: 1}}, w.receive(9))

	w.now = 40
	w.reopen()
	at, _ = w.live.NextExpiry()
	require.Equal(t, int64(60), at, "a lease does not get longer either")
}

// TestALeaseThatOutlivesTheOpeningCanBeSettled until it ends.
func TestALeaseThatOutlivesTheOpeningCanBeSettled(t *testing.T) {
	w := newWorld(t, 1, 100, false)
	w.stream.keys = []Hash{keyOf(0), keyOf(1)}
	w.receive(2)
	w.reopen()
	w.settle(Ack, w.leases[0])
	require.Equal(t, 1, w.live.Unsettled())
	w.now = 31
	w.both(func(b *Backlog) { b.Expire(w.now) })
	w.settle(Ack, w.leases[1])
	require.Equal(t, 1, w.live.Unsettled())
}

// TestAnAckOfALaterDeliveryEndsALease whose end, and the delivery after it, were lost.
func TestAnAckOfALaterDeliveryEndsALease(t *testing.T) {
	w := newWorld(t, 1, 100, false)
	w.stream.keys = []Hash{keyOf(0)}
	w.receive(1)
	w.losing(func() {
		w.settle(Nack, w.leases[0])
		w.receive(1)
	})
	require.Len(t, w.live.Leases(), 1)
	w.settle(Nack, w.leases[1])
	require.Len(t, w.live.Leases(), 1)
	w.settle(Ack, w.leases[1])
	require.Zero(t, w.live.Unsettled())
}

// TestNoMessageIsLeftOutWhenRecordsAreMissing loses a receive, an ack and a nack in the middle, as a repair of a damaged log
// does.
func TestNoMessageIsLeftOutWhenRecordsAreMissing(t *testing.T) {
	w := newWorld(t, 1, 100, false)
	for i := range 5 {
		w.stream.keys = append(w.stream.keys, keyOf(i))
	}
	w.receive(2) // 1 and 2
	repaired := Read(w.stream, wire.NewReader(w.live.AppendTo(nil)))
	repaired.Lost()
	w.settle(Ack, w.leases[0]) // is missing
	w.receive(1)               // 3 is missing
	w.replay = repaired
	r := &Receive{Now: w.now, Lease: w.live.NextLease(1), Length: 30, Next: 5, Fresh: []Message{{4, keyOf(3)}}}
	w.both(func(b *Backlog) { b.Receive(r, nil) })
	w.both(func(b *Backlog) { b.Settle([]Delivery{{4, r.Lease}}, Ack, w.now, 0) })
	w.both(func(b *Backlog) { b.Settle([]Delivery{w.leases[1], {3, w.leases[2].Lease}}, Nack, w.now, 0) })
	w.live, w.leases, w.settled = Read(w.stream, wire.NewReader(repaired.AppendTo(nil))), nil, map[int64]bool{}
	w.reopen()
	w.now = 1000
	var got []int64
	for _, l := range w.receive(100) {
		got = append(got, l.Seq)
	}
	require.Equal(t, []int64{1, 2, 3, 5}, got, "4 is acked")
}
