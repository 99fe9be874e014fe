package store

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOnlyTheFirstWaiterIsCalled(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first, second := f.queue(), f.queue()
	f.send("a")
	require.True(t, called(first))
	require.False(t, called(second))
	f.send("b")
	require.False(t, called(first), "it is called already")
	require.False(t, called(second), "the second is called only if more is left when the first has received")
}

func TestTheNextWaiterIsCalledWhenMoreIsAvailable(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first, second, third := f.queue(), f.queue(), f.queue()
	f.send("a", "b")
	require.True(t, called(first))
	got, err := first.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.True(t, called(second))
	_, _ = second.Receive(t.Context(), 1, nil)
	require.False(t, called(third))
}

func TestACalledWaiterThatLeavesPassesTheTurnOn(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first, second := f.queue(), f.queue()
	f.send("a")
	require.True(t, called(first))
	first.Leave()
	first.Leave()
	require.True(t, called(second))
}

func TestAWaiterThatReceivesNothingStaysFirst(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first, second := f.queue(), f.queue()
	f.send("a")
	require.Len(t, f.receive(1), 1, "a receive that is not in the queue is faster")
	require.True(t, called(first))
	got, err := first.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	f.send("b")
	require.True(t, called(first))
	require.False(t, called(second))
}

func TestAnAvailableMessageCallsANewWaiterAtOnce(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	f.send("a")
	require.True(t, called(f.queue()))
}

func TestAFilteredOutMessageCallsNoWaiter(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	c, err := f.CreateConsumer(t.Context(), ConsumerOptions{Name: "b", Filter: "b.>", ConsumerLimits: must(f.consumer.Info(t.Context())).ConsumerLimits})
	require.NoError(t, err)
	p, err := c.Queue(t.Context())
	require.NoError(t, err)
	defer p.Leave()
	f.send("a.1")
	require.False(t, called(p))
	f.send("b.1")
	require.True(t, called(p))
}

func TestMaxWaitingLimitsTheQueue(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first := f.queue()
	f.queue()
	f.queue()
	_, err := f.consumer.Queue(t.Context())
	require.Equal(t, ErrTooManyWaiting, err)
	first.Leave()
	f.queue()
}

func TestDeletingOrClosingWakesAllWaiters(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(f *fixture)
		want error
	}{
		"consumer deleted": {func(f *fixture) { require.NoError(f.t, f.consumer.Delete(t.Context())) }, ErrNoConsumer},
		"stream deleted":   {func(f *fixture) { require.NoError(f.t, f.Stream.Delete(t.Context())) }, ErrNoConsumer},
		"store closed":     {func(f *fixture) { f.store.Close() }, ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, StreamOptions{}, ConsumerLimits{})
			first, second := f.queue(), f.queue()
			f.send("a")
			tt.end(f)
			for _, p := range []Place{first, second} {
				require.True(t, called(p))
				_, err := p.Receive(t.Context(), 1, nil)
				require.Equal(t, tt.want, err)
			}
			_, err := f.consumer.Queue(t.Context())
			require.Equal(t, tt.want, err)
			require.Equal(t, tt.want, f.consumer.Settle(t.Context(), nil, Ack))
			_, err = f.consumer.Update(t.Context(), ConsumerLimits{})
			require.Equal(t, tt.want, err)
		})
	}
}

// TestTheTimerFollowsTheLeaseThatEndsNext shortens ack_wait, so that a lease that began later ends first.
func TestTheTimerFollowsTheLeaseThatEndsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, StreamOptions{}, ConsumerLimits{AckWait: time.Minute})
		f.send("a", "b", "c")
		start := time.Now()
		long := f.receive(1)
		p := f.queue()
		require.True(t, called(p), "b and c are available")
		limits := must(f.consumer.Info(t.Context())).ConsumerLimits
		limits.AckWait = 10 * time.Second
		_, err := f.consumer.Update(t.Context(), limits)
		require.NoError(t, err)
		require.Len(t, f.receive(10), 2)
		_, err = p.Receive(t.Context(), 1, nil)
		require.NoError(t, err)

		<-p.Ready()
		require.Equal(t, 10*time.Second, time.Since(start))
		got, err := p.Receive(t.Context(), 10, nil)
		require.NoError(t, err)
		require.Len(t, got, 2)

		// After the lease that the timer is set for is settled, the timer fires for nothing and is set again.
		last := f.queue()
		require.NoError(t, f.consumer.Settle(t.Context(), []ID{got[0].ID, got[1].ID}, Ack))
		<-last.Ready()
		require.Equal(t, time.Minute, time.Since(start))
		again, err := last.Receive(t.Context(), 10, nil)
		require.NoError(t, err)
		require.Equal(t, long[0].Key, again[0].Key)
	})
}
