package lease

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// jumped returns what time.Now returns at t if the wall clock was set forward by that duration. Its monotonic part is that
// of t.
func jumped(t time.Time, by time.Duration) time.Time {
	const nanoseconds = 30 // beside a monotonic part, time.Time keeps whole seconds above 30 bits of nanoseconds
	moved := t
	*(*uint64)(unsafe.Pointer(&moved)) += uint64(int64(by/time.Second)) << nanoseconds
	return moved
}

func TestATimeIsPastByEitherClock(t *testing.T) {
	began := time.Now()
	end := began.Add(10 * time.Second)
	for _, row := range []struct {
		name    string
		elapsed time.Duration // by the monotonic clock
		jump    time.Duration // of the wall clock
		want    bool
	}{
		{"not yet", 9 * time.Second, 0, false},
		{"now", 10 * time.Second, 0, true},
		{"set forward", time.Second, time.Hour, true}, // or the machine slept: the monotonic clock stopped
		{"set forward a little", time.Second, 8 * time.Second, false},
		{"set forward to the very time", time.Second, 9 * time.Second, true},
		{"set forward to just before it", time.Second - 1, 9 * time.Second, false},
		{"set back before", 5 * time.Second, -time.Hour, false},
		{"set back afterwards", 10 * time.Second, -time.Hour, true},
	} {
		now := jumped(began.Add(row.elapsed), row.jump)
		require.Equal(t, row.elapsed, now.Sub(began), "the test's own clock")
		require.Equal(t, row.want, Past(now, end), row.name)
	}
}

func TestALeaseEndsForTheProgramBeforeItEndsOnTheServer(t *testing.T) {
	sent := time.Now()
	arrived := sent.Add(7 * time.Second)
	long, short := NewTerms(30*time.Second, 0), NewTerms(4*time.Second, 0)
	for name, row := range map[string]struct {
		atSend, atArrival                   Terms
		waited, handOverBy, deadline, until time.Duration // after sent
	}{
		"unchanged":            {long, long, 0, 26 * time.Second, 28 * time.Second, 37 * time.Second},
		"the server waited":    {long, long, 6 * time.Second, 32 * time.Second, 34 * time.Second, 37 * time.Second},
		"shortened meanwhile":  {long, short, 0, 2 * time.Second, 3 * time.Second, 37 * time.Second},
		"lengthened meanwhile": {short, long, 0, 2 * time.Second, 3 * time.Second, 37 * time.Second},
	} {
		l := New(sent, row.waited, arrived, row.atSend, row.atArrival, context.Background())
		require.Equal(t, row.handOverBy, l.HandOverBy.Sub(sent), name)
		require.Equal(t, row.deadline, l.Deadline.Sub(sent), name)
		require.Equal(t, row.until, l.Until.Sub(sent), name)
		require.Equal(t, min(row.atSend.Margin, row.atArrival.Margin), l.Margin, name)
	}
}

func TestTheMarginIsAQuarterUpToTwoSeconds(t *testing.T) {
	for _, row := range []struct{ ackWait, config, want time.Duration }{
		{100 * time.Millisecond, 0, 25 * time.Millisecond},
		{4 * time.Second, 0, time.Second},
		{8 * time.Second, 0, 2 * time.Second},
		{time.Hour, 0, 2 * time.Second},
		{time.Hour, time.Minute, time.Minute},
		{2 * time.Second, time.Second, time.Second},
		{2 * time.Second, time.Second + 1, 500 * time.Millisecond},
	} {
		require.Equal(t, row.want, NewTerms(row.ackWait, row.config).Margin, "%+v", row)
	}
}

func TestAContextEndsAtTheDeadlineOrWithItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		defer cancel()
		terms := NewTerms(8*time.Second, 0)
		short := New(time.Now(), 0, time.Now(), terms, terms, parent)
		ctx := short.Context()
		require.Same(t, ctx, short.Context())
		time.Sleep(6*time.Second - time.Nanosecond)
		require.NoError(t, ctx.Err())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)

		ctx = New(time.Now(), 0, time.Now(), terms, terms, parent).Context()
		cancel()
		require.ErrorIs(t, ctx.Err(), context.Canceled)
	})
}
