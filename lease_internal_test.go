package sequin

import (
	"context"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// jumped is what time.Now returns at t once the wall clock has been set by so much: its monotonic part is t's.
func jumped(t time.Time, by time.Duration) time.Time {
	const nanoseconds = 30 // time.Time keeps whole seconds above as many bits of nanoseconds, beside a monotonic part
	moved := t
	*(*uint64)(unsafe.Pointer(&moved)) += uint64(int64(by/time.Second)) << nanoseconds
	return moved
}

func TestALeaseIsOverByEitherClock(t *testing.T) {
	began := time.Now()
	end := began.Add(10 * time.Second)
	for _, row := range []struct {
		name    string
		elapsed time.Duration // by the monotonic clock
		jump    time.Duration // of the wall clock
		want    bool
	}{
		{"running", 9 * time.Second, 0, false},
		{"over", 10 * time.Second, 0, true},
		{"set_forward", time.Second, time.Hour, true}, // or the machine slept: the monotonic clock stood still
		{"set_forward_a_little", time.Second, 8 * time.Second, false},
		{"set_forward_to_the_end", time.Second, 9 * time.Second, true},
		{"set_back_while_running", 5 * time.Second, -time.Hour, false},
		{"set_back_when_over", 10 * time.Second, -time.Hour, true},
	} {
		now := jumped(began.Add(row.elapsed), row.jump)
		require.Equal(t, row.elapsed, now.Sub(began), "the test's own clock")
		require.Equal(t, row.want, past(now, end), row.name)
	}
}

func TestLeasesStayInTheOrderOfTheirEnds(t *testing.T) {
	began := time.Now()
	var list leases
	all := map[int]*lease{}
	for _, second := range []int{5, 1, 9, 5, 3, 9, 0, 7} {
		l := newLease(began.Add(time.Duration(second)*time.Second), 0, began.Add(time.Duration(second)*time.Second),
			leaseTerms{time.Second, 0}, leaseTerms{time.Second, 0}, context.Background())
		list.add(l)
		all[second] = l
	}
	order := func() (seconds []int) {
		var before *lease
		for l := list.first; l != nil; l = l.next {
			require.Same(t, before, l.prev)
			seconds, before = append(seconds, int(l.began.Sub(began)/time.Second)), l
		}
		require.Same(t, before, list.last)
		return seconds
	}
	require.Equal(t, []int{0, 1, 3, 5, 5, 7, 9, 9}, order())
	for _, gone := range []struct {
		second int
		left   []int
	}{{0, []int{1, 3, 5, 5, 7, 9, 9}}, {9, []int{1, 3, 5, 5, 7, 9}}, {3, []int{1, 5, 5, 7, 9}}} {
		l := all[gone.second]
		list.remove(l)
		require.Nil(t, l.prev)
		require.Nil(t, l.next)
		require.Equal(t, gone.left, order())
	}
}

func TestALeaseEndsHereBeforeItEndsThere(t *testing.T) {
	sent := time.Now()
	arrived := sent.Add(7 * time.Second)
	long, short := newLeaseTerms(30*time.Second, 0), newLeaseTerms(4*time.Second, 0)
	for name, row := range map[string]struct {
		then, since                     leaseTerms
		waited, near, deadline, roomFor time.Duration // after sent
	}{
		"as_it_was":          {long, long, 0, 26 * time.Second, 28 * time.Second, 37 * time.Second},
		"the_server_waited":  {long, long, 6 * time.Second, 32 * time.Second, 34 * time.Second, 37 * time.Second},
		"shortened_meantime": {long, short, 0, 2 * time.Second, 3 * time.Second, 37 * time.Second},
		"extended_meantime":  {short, long, 0, 2 * time.Second, 3 * time.Second, 37 * time.Second},
	} {
		l := newLease(sent, row.waited, arrived, row.then, row.since, context.Background())
		require.Equal(t, row.near, l.near.Sub(sent), name)
		require.Equal(t, row.deadline, l.deadline.Sub(sent), name)
		require.Equal(t, row.roomFor, l.until.Sub(sent), name)
		require.Equal(t, min(row.then.margin, row.since.margin), l.margin, name)
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
		require.Equal(t, row.want, newLeaseTerms(row.ackWait, row.config).margin, "%+v", row)
	}
}
