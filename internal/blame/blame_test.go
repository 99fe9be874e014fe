package blame

import (
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// refuse makes one attempt at c that is refused and followed by a successful control of that many messages.
func refuse(t *Tracker, c *Case, messages int) {
	t.Refused(c, 0)
	t.Succeeded(messages, 100, time.Millisecond)
}

func TestABatchIsSplitAfterFiveRefusalsWithControlsBetween(t *testing.T) {
	var tr Tracker
	var c Case
	for range 4 {
		refuse(&tr, &c, 1)
		require.Equal(t, Retry, tr.Decide(&c, 1000))
	}
	refuse(&tr, &c, 1)
	require.Equal(t, Split, tr.Decide(&c, 1000))
}

func TestNothingIsDecidedWithoutAControl(t *testing.T) {
	var tr Tracker
	var c Case
	require.True(t, tr.Controlled(&c), "the first attempt needs no control")
	for range 100 {
		tr.Refused(&c, 0)
		tr.Failed()
		require.False(t, tr.Controlled(&c))
		require.Equal(t, Wait, tr.Decide(&c, 1000))
		require.Equal(t, Wait, tr.Decide(&c, 1))
	}
	tr.Succeeded(1, 100, time.Millisecond)
	require.Equal(t, Retry, tr.Decide(&c, 1000), "a hundred refusals in a row without a control between them count as one")
}

func TestNothingIsSplitWhileMostControlsFail(t *testing.T) {
	var tr Tracker
	var c Case
	for range 100 {
		tr.Failed()
		tr.Failed()
		refuse(&tr, &c, 1)
		require.Equal(t, Retry, tr.Decide(&c, 1000))
	}
	for range recentControls {
		tr.Succeeded(1, 100, time.Millisecond)
	}
	require.Equal(t, Split, tr.Decide(&c, 1000))
}

func TestAMessageFailsOnceAnInnocentOneWouldHavePassed(t *testing.T) {
	for _, row := range []struct {
		failing  int // controls that fail for each one that succeeds
		refusals int // until the message fails; the first one has no control before it, and does not count
	}{
		{0, 21},
		{1, 21},
		{3, 50}, // 0.75^49 is 7.6e-7; the first refusals count more, while few controls are known
	} {
		var tr Tracker
		for range recentControls {
			for range row.failing {
				tr.Failed()
			}
			tr.Succeeded(1, 100, time.Millisecond)
		}
		var c Case
		n := 0
		for {
			n++
			for range row.failing {
				tr.Failed()
			}
			refuse(&tr, &c, 1)
			if tr.Decide(&c, 1) == Fail {
				break
			}
			require.Less(t, n, 1000)
		}
		require.Equal(t, row.refusals, n, "with %d controls failing for one that succeeds", row.failing)
	}
}

func TestEmptySendsAloneFailTenMessagesInARow(t *testing.T) {
	var tr Tracker
	failed := func(messages int) bool {
		var c Case
		for range 100 {
			refuse(&tr, &c, messages)
			if tr.Decide(&c, 1) == Fail {
				return true
			}
		}
		return false
	}
	for range maxFailedByEmpty {
		require.True(t, failed(0))
	}
	require.False(t, failed(0), "the eleventh")
	tr.Succeeded(1, 100, time.Millisecond)
	require.True(t, failed(0), "after a send with messages succeeded")
	require.True(t, failed(1))
}

func TestTheTimeoutFollowsTheSlowestRecentSuccess(t *testing.T) {
	var tr Tracker
	const limit = 30 * time.Second
	require.Equal(t, limit, tr.Timeout(100, limit), "nothing is known")
	tr.Succeeded(1, 512<<10, 20*time.Millisecond)
	require.Equal(t, time.Second, tr.Timeout(512<<10, limit), "at least a second")
	tr.Succeeded(1, 512<<10, 500*time.Millisecond)
	require.Equal(t, 5*time.Second, tr.Timeout(512<<10, limit))
	require.Equal(t, 5*time.Second, tr.Timeout(10, limit), "a small one as long as the slowest")
	require.Equal(t, 5*time.Second, tr.Timeout(1<<20, limit), "half the size is comparable")
	require.Equal(t, 20*time.Second, tr.Timeout(4<<20, limit), "one that is much larger takes longer in proportion")
	require.Equal(t, limit, tr.Timeout(8<<20, limit))
	for range 16 {
		tr.Succeeded(1, 512<<10, 20*time.Millisecond)
	}
	require.Equal(t, time.Second, tr.Timeout(512<<10, limit), "the slow ones are forgotten")
}

// While a batch is suspected, sends without messages may be all that succeeds. A batch that hangs would otherwise take Timeout
// at each attempt, and half an hour to be decided.
func TestEmptySendsDoNotLengthenTheTimeoutOfALargeBatch(t *testing.T) {
	var tr Tracker
	const limit = 30 * time.Second
	tr.Succeeded(0, 0, 20*time.Millisecond)
	require.Equal(t, time.Second, tr.Timeout(256<<10, limit), "the time of an empty send is latency, and not a rate")
	tr.Succeeded(0, 0, 200*time.Millisecond)
	require.Equal(t, 8*time.Second, tr.Timeout(1<<20, limit))
	tr.Succeeded(1000, 1<<20, 300*time.Millisecond)
	for range 100 {
		tr.Succeeded(0, 0, 200*time.Millisecond)
	}
	require.Equal(t, 3*time.Second, tr.Timeout(1<<20, limit), "what is known of that size is not displaced")
}

func TestAControlIsAtLeastAsLargeAsTheCaseAsks(t *testing.T) {
	for _, row := range []struct {
		bytes, control int
		counts         bool
	}{
		{0, 1, true},
		{1, 1, true},
		{1000, 900, false},
		{1000, 1000, false}, // sizes are kept as powers of two, so that a control counts only if it is surely as large
		{1000, 1024, true},
		{1024, 1024, true},
		{1025, 1500, false},
		{1025, 1 << 20, true},
		{8_000_000, 7_000_000, false},
	} {
		var tr Tracker
		var c Case
		tr.Refused(&c, row.bytes)
		tr.Succeeded(1, row.control, time.Millisecond)
		require.Equal(t, row.counts, tr.Controlled(&c), "%d for %d", row.control, row.bytes)
		tr.SucceededFor(&c, row.bytes, time.Millisecond)
		require.True(t, tr.Controlled(&c), "its own")
		tr.Refused(&c, row.bytes)
		require.False(t, tr.Controlled(&c), "it counts once")
	}
}

func TestATrackerHasMemoryForTheSizesThatWereSentOnly(t *testing.T) {
	var tr Tracker
	require.LessOrEqual(t, unsafe.Sizeof(tr), uintptr(64))
	for range 3 {
		tr.Succeeded(1, 100, time.Millisecond)
		tr.Succeeded(0, 120, time.Millisecond)
		tr.Succeeded(1, 1<<20, time.Millisecond)
		tr.Succeeded(1, 5000, time.Millisecond)
	}
	require.Len(t, tr.successes, 3)
	for i := range 30 {
		tr.Succeeded(1, 1<<i, time.Millisecond)
	}
	require.Len(t, tr.successes, largestClass+1)
	require.True(t, slices.IsSortedFunc(tr.successes, func(a, b successes) int { return a.class - b.class }))
}
