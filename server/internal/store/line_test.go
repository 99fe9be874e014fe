package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fixture is a stream with a consumer of everything.
type fixture struct {
	t *testing.T
	Stream
	consumer Consumer
}

func newFixture(t *testing.T, o StreamOptions, limits ConsumerLimits) *fixture {
	t.Helper()
	o.Name = "s"
	s, err := NewMemory().CreateStream(o)
	require.NoError(t, err)
	limits.MaxWaiting = 3
	if limits.AckWait == 0 {
		limits.AckWait = time.Minute
	}
	if limits.MaxAckPending == 0 {
		limits.MaxAckPending = 1000
	}
	c, err := s.CreateConsumer(ConsumerOptions{Name: "c", Filter: ">", ConsumerLimits: limits})
	require.NoError(t, err)
	return &fixture{t, s, c}
}

func (f *fixture) send(keys ...string) {
	f.t.Helper()
	var batch []Message
	for _, key := range keys {
		batch = append(batch, Message{Key: key, Data: "x"})
	}
	_, err := f.Send(batch)
	require.NoError(f.t, err)
}

func (f *fixture) receive(n int) []Delivery {
	f.t.Helper()
	got, err := f.consumer.Receive(n, nil)
	require.NoError(f.t, err)
	return got
}

func (f *fixture) queue() Place {
	f.t.Helper()
	p, err := f.consumer.Queue()
	require.NoError(f.t, err)
	f.t.Cleanup(p.Leave)
	return p
}

func called(p Place) bool {
	select {
	case <-p.Ready():
		return true
	default:
		return false
	}
}

func TestOnlyTheFirstInLineIsCalled(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first, second := f.queue(), f.queue()
	f.send("a")
	require.True(t, called(first))
	require.False(t, called(second))
	f.send("b")
	require.False(t, called(first), "it is called already")
	require.False(t, called(second), "whether there is more shows when the first has received")
}

func TestTheNextInLineIsCalledWhenThereIsMore(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first, second, third := f.queue(), f.queue(), f.queue()
	f.send("a", "b")
	require.True(t, called(first))
	got, err := first.Receive(1, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.True(t, called(second))
	_, _ = second.Receive(1, nil)
	require.False(t, called(third))
}

func TestOneWhoIsCalledAndLeavesPassesTheTurnOn(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first, second := f.queue(), f.queue()
	f.send("a")
	require.True(t, called(first))
	first.Leave()
	first.Leave()
	require.True(t, called(second))
}

func TestOneWhoIsOvertakenStaysAtTheHead(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first, second := f.queue(), f.queue()
	f.send("a")
	require.Len(t, f.receive(1), 1, "somebody who does not stand in line is quicker")
	require.True(t, called(first))
	got, err := first.Receive(1, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	f.send("b")
	require.True(t, called(first))
	require.False(t, called(second))
}

func TestWorkThatIsThereAlreadyCallsAtOnce(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	f.send("a")
	require.True(t, called(f.queue()))
}

func TestWhatTheFilterLeavesOutCallsNobody(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	c, err := f.CreateConsumer(ConsumerOptions{Name: "b", Filter: "b.>", ConsumerLimits: f.consumer.Info().ConsumerLimits})
	require.NoError(t, err)
	p, err := c.Queue()
	require.NoError(t, err)
	defer p.Leave()
	f.send("a.1")
	require.False(t, called(p))
	f.send("b.1")
	require.True(t, called(p))
}

func TestTheLineIsLimited(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	first := f.queue()
	f.queue()
	f.queue()
	_, err := f.consumer.Queue()
	require.Equal(t, ErrTooManyWaiting, err)
	first.Leave()
	f.queue()
}

// TestTheEndWakesEveryone has one row for each end.
func TestTheEndWakesEveryone(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(f *fixture)
		want error
	}{
		"consumer deleted": {func(f *fixture) { require.NoError(f.t, f.consumer.Delete()) }, ErrNoConsumer},
		"stream deleted":   {func(f *fixture) { require.NoError(f.t, f.Stream.Delete()) }, ErrNoConsumer},
		"store closed":     {func(f *fixture) { f.Stream.(*stream).memory.Close() }, ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, StreamOptions{}, ConsumerLimits{})
			first, second := f.queue(), f.queue()
			f.send("a")
			tt.end(f)
			for _, p := range []Place{first, second} {
				require.True(t, called(p))
				_, err := p.Receive(1, nil)
				require.Equal(t, tt.want, err)
			}
			_, err := f.consumer.Queue()
			require.Equal(t, tt.want, err)
			require.Equal(t, tt.want, f.consumer.Settle(nil, Ack))
			_, err = f.consumer.Update(ConsumerLimits{})
			require.Equal(t, tt.want, err)
		})
	}
}

// TestTheTimerFollowsTheSoonestLease shortens ack_wait, so that a later lease ends first.
func TestTheTimerFollowsTheSoonestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, StreamOptions{}, ConsumerLimits{AckWait: time.Minute})
		f.send("a", "b", "c")
		start := time.Now()
		long := f.receive(1)
		p := f.queue()
		require.True(t, called(p), "b and c are there")
		limits := f.consumer.Info().ConsumerLimits
		limits.AckWait = 10 * time.Second
		_, err := f.consumer.Update(limits)
		require.NoError(t, err)
		require.Len(t, f.receive(10), 2)
		_, err = p.Receive(1, nil)
		require.NoError(t, err)

		<-p.Ready()
		require.Equal(t, 10*time.Second, time.Since(start))
		got, err := p.Receive(10, nil)
		require.NoError(t, err)
		require.Len(t, got, 2)

		// Settling the lease that a timer is set for makes the timer fire for nothing, and set itself again.
		last := f.queue()
		require.NoError(t, f.consumer.Settle([]ID{got[0].ID, got[1].ID}, Ack))
		<-last.Ready()
		require.Equal(t, time.Minute, time.Since(start))
		again, err := last.Receive(10, nil)
		require.NoError(t, err)
		require.Equal(t, long[0].Key, again[0].Key)
	})
}

func TestATimerRunsOnlyWhileSomebodyWaits(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	timer := func() *time.Timer { return f.consumer.(*leaseConsumer).line.timer }
	f.send("a")
	f.receive(1)
	require.Nil(t, timer())
	p := f.queue()
	require.NotNil(t, timer())
	p.Leave()
	require.Nil(t, timer())
}

// TestAHotKeyIsWorkedOffInLinearTime acks ten thousand messages of one key one by one: moving what waits behind would
// show in the benchmark, losing or doubling one shows here.
func TestAHotKeyIsWorkedOffInLinearTime(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	const n = 10_000
	for i := range n {
		_, err := f.Send([]Message{{Key: "hot", Data: fmt.Sprint(i)}})
		require.NoError(t, err)
	}
	for i := range n {
		got := f.receive(10)
		require.Len(t, got, 1)
		require.Equal(t, fmt.Sprint(i), got[0].Data)
		require.NoError(t, f.consumer.Settle([]ID{got[0].ID}, Ack))
	}
	require.Empty(t, f.receive(1))
}
