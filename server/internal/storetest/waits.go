package storetest

import (
	"context"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var waitTests = []test{
	{promise: "only the first place is called", check: onlyTheFirstIsCalled},
	{promise: "the next place is called when more is available", check: nextIsCalled},
	{promise: "a called place that leaves passes the turn on", check: turnIsPassedOn},
	{promise: "a place that receives nothing stays first", check: placeStaysFirst},
	{promise: "an available message calls a new place at once", check: newPlaceIsCalled},
	{promise: "a message that the filter does not match calls no place", check: otherMessagesDoNotCall},
	{promise: "a nack calls a place", check: nackCalls},
	{promise: "an ack calls a place that waits for max_ack_pending or for its key", check: ackCalls, limits: store.ConsumerLimits{MaxAckPending: 1}},
	{promise: "an update calls a place that waits for max_ack_pending", check: updateCalls, limits: store.ConsumerLimits{MaxAckPending: 1}},
	{promise: "the end of a lease calls a place", check: endOfALeaseCalls, timed: true},
	{promise: "the lease that ends next calls, also after others were settled", check: nextEndCalls, timed: true},
	{promise: "max_waiting limits the queue", check: maxWaiting, limits: store.ConsumerLimits{MaxWaiting: 3}},
}

// queue adds a place, which leaves when the test ends.
func (f *fixture) queue() store.Place {
	f.t.Helper()
	p, err := f.consumer.Queue(f.t.Context())
	require.NoError(f.t, err)
	f.t.Cleanup(p.Leave)
	return p
}

// requireCalled takes the call of a place.
func (f *fixture) requireCalled(p store.Place) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	select {
	case <-p.Ready():
	case <-ctx.Done():
		f.t.Fatal("the place is not called")
	}
}

// requireQuiet holds that none of the places is called. Outside of a bubble a store could be late, so that nothing is held
// there.
func (f *fixture) requireQuiet(places ...store.Place) {
	f.t.Helper()
	if f.cfg.RealTime {
		return
	}
	synctest.Wait()
	for i, p := range places {
		select {
		case <-p.Ready():
			f.t.Fatalf("place %d is called", i)
		default:
		}
	}
}

func (f *fixture) receiveAt(p store.Place, n int) []store.Delivery {
	f.t.Helper()
	got, err := p.Receive(f.t.Context(), n, nil)
	require.NoError(f.t, err)
	return got
}

func onlyTheFirstIsCalled(f *fixture) {
	first, second := f.queue(), f.queue()
	f.requireQuiet(first, second)
	f.send("a")
	f.requireCalled(first)
	f.send("b")
	f.requireQuiet(first, second) // the first is called already, the second waits for its receive
}

func nextIsCalled(f *fixture) {
	first, second, third := f.queue(), f.queue(), f.queue()
	f.send("a", "b")
	f.requireCalled(first)
	require.Equal(f.t, []string{"a="}, got(f.receiveAt(first, 1)))
	f.requireCalled(second)
	require.Equal(f.t, []string{"b="}, got(f.receiveAt(second, 1)))
	f.requireQuiet(third)
}

func turnIsPassedOn(f *fixture) {
	first, second := f.queue(), f.queue()
	f.send("a")
	f.requireCalled(first)
	first.Leave()
	first.Leave()
	f.requireCalled(second)
	require.Len(f.t, f.receiveAt(second, 1), 1)
}

func placeStaysFirst(f *fixture) {
	first, second := f.queue(), f.queue()
	f.send("a")
	f.requireCalled(first)
	require.Len(f.t, f.receive(1), 1, "a receive that is not in the queue is faster")
	require.Empty(f.t, f.receiveAt(first, 1))
	f.send("b")
	f.requireCalled(first)
	f.requireQuiet(second)
}

func newPlaceIsCalled(f *fixture) {
	f.send("a")
	f.requireCalled(f.queue())
}

func otherMessagesDoNotCall(f *fixture) {
	f.consumer = f.createConsumer(f.stream, "b", "b.>", store.ConsumerLimits{})
	p := f.queue()
	f.send("a.1")
	f.requireQuiet(p)
	f.send("b.1")
	f.requireCalled(p)
}

func nackCalls(f *fixture) {
	for _, how := range []store.Settlement{store.Nack, store.Return} {
		f.send("a")
		leased := f.receive(1)
		p := f.queue()
		f.requireQuiet(p)
		f.settle(how, leased...)
		f.requireCalled(p)
		f.ack(f.receiveAt(p, 1)...)
	}
}

func ackCalls(f *fixture) {
	f.send("a=1", "b=1")
	leased := f.receive(1)
	p := f.queue()
	f.requireQuiet(p)
	f.ack(leased...)
	f.requireCalled(p)
	f.ack(f.receiveAt(p, 9)...)
	f.update(func(l *store.ConsumerLimits) { l.MaxAckPending = 9 })
	f.send("c=1", "c=2")
	leased = f.receive(9)
	p = f.queue()
	f.requireQuiet(p)
	f.ack(leased...)
	f.requireCalled(p)
	require.Equal(f.t, []string{"c=2"}, got(f.receiveAt(p, 9)))
}

func updateCalls(f *fixture) {
	f.send("a", "b")
	f.receive(1)
	p := f.queue()
	f.requireQuiet(p)
	f.update(func(l *store.ConsumerLimits) { l.MaxAckPending = 2 })
	f.requireCalled(p)
}

func endOfALeaseCalls(f *fixture) {
	f.send("a")
	start := time.Now()
	f.receive(1)
	p := f.queue()
	<-p.Ready()
	require.Equal(f.t, time.Minute, time.Since(start))
	require.Equal(f.t, []string{"a="}, got(f.receiveAt(p, 1)))
}

// nextEndCalls shortens ack_wait, so that a lease that began later ends first.
func nextEndCalls(f *fixture) {
	f.send("a", "b", "c")
	start := time.Now()
	f.receive(1)
	p := f.queue()
	f.requireCalled(p) // b and c are available
	f.update(func(l *store.ConsumerLimits) { l.AckWait = 10 * time.Second })
	require.Len(f.t, f.receive(10), 2)
	require.Empty(f.t, f.receiveAt(p, 1))
	<-p.Ready()
	require.Equal(f.t, 10*time.Second, time.Since(start))
	short := f.receiveAt(p, 10)
	require.Len(f.t, short, 2)

	last := f.queue()
	f.ack(short...)
	<-last.Ready()
	require.Equal(f.t, time.Minute, time.Since(start))
	require.Equal(f.t, []string{"a="}, got(f.receiveAt(last, 10)))
}

func maxWaiting(f *fixture) {
	first := f.queue()
	f.queue()
	f.queue()
	_, err := f.consumer.Queue(f.t.Context())
	require.ErrorIs(f.t, err, store.ErrTooManyWaiting)
	first.Leave()
	f.queue()
	require.Equal(f.t, 3, f.state().Waiting)
}
