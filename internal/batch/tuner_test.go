package batch

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// tuned is a tuner whose lanes each end a batch every 50 ms, as long as no more than useful of them are open. More of them carry no
// more.
type tuned struct {
	tuner
	now     time.Time
	useful  int
	mayNot  bool
	changes []change
}

type change struct {
	at    time.Duration
	lanes int
}

// run ends batches for that time. alter changes what the tuner is told.
func (u *tuned) run(lasts time.Duration, alter func(*ending)) {
	begin := time.Unix(0, 0)
	if u.now.IsZero() {
		u.now = begin
	}
	for end := u.now.Add(lasts); u.now.Before(end); {
		u.now = u.now.Add(50 * time.Millisecond / time.Duration(min(u.want, u.useful)))
		e := ending{at: u.now, items: 100, heard: true, limited: true}
		if alter != nil {
			alter(&e)
		}
		before := u.want
		u.cut(u.now, 1)
		u.ended(e, func(int) bool { return !u.mayNot })
		if u.want != before {
			u.changes = append(u.changes, change{u.now.Sub(begin), u.want})
		}
	}
}

func (u *tuned) lanes() (all []int) {
	for _, c := range u.changes {
		all = append(all, c.lanes)
	}
	return all
}

func TestATunerKeepsLanesThatCarryMore(t *testing.T) {
	for _, row := range []struct {
		name   string
		useful int
		alter  func(*ending)
		mayNot bool
		want   []int // within the first 30 s
	}{
		{"all are useful", 64, nil, false, []int{8, 16, 32, 64}},
		{"16 are useful", 16, nil, false, []int{8, 16, 32, 16}},
		{"5 are useful, which is a quarter more", 5, nil, false, []int{8, 16, 8}},
		{"4 are useful", 4, nil, false, []int{8, 4}},
		{"it may not", 64, nil, true, nil},
		{"the lanes are not the limit", 64, func(e *ending) { e.limited = false }, false, nil},
		{"failures", 64, func(e *ending) { e.failed = true }, false, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			u := &tuned{tuner: newTuner(4, 64), useful: row.useful, mayNot: row.mayNot}
			u.run(30*time.Second, row.alter)
			require.Equal(t, row.want, u.lanes())
		})
	}
}

func TestATunerTriesAgainOnceAMinute(t *testing.T) {
	u := &tuned{tuner: newTuner(4, 64), useful: 16}
	u.run(5*time.Minute+30*time.Second, nil)
	var more, fewer []time.Duration
	for _, c := range u.changes {
		switch c.lanes {
		case 32:
			more = append(more, c.at)
		case 8:
			fewer = append(fewer, c.at)
		}
	}
	require.Len(t, more, 6)
	require.Len(t, fewer[1:], 5, "and the first time on the way up")
	for _, times := range [][]time.Duration{more, fewer} {
		for i := 1; i < len(times); i++ {
			require.GreaterOrEqual(t, times[i]-times[i-1], retrial)
		}
	}
	require.Equal(t, 16, u.want)
}

// What has carried more may carry no more later.
func TestATunerReturnsToFewerLanesThatCarryAsMuch(t *testing.T) {
	u := &tuned{tuner: newTuner(4, 64), useful: 64}
	u.run(10*time.Second, nil)
	require.Equal(t, 64, u.want)
	u.useful = 4
	u.run(4*time.Minute+30*time.Second, nil)
	require.Equal(t, []int{8, 16, 32, 64, 32, 16, 8, 4}, u.lanes())
}

func TestATrialThatIsDisturbedEnds(t *testing.T) {
	for _, row := range []struct {
		name  string
		alter func(*ending)
		again bool // at once when the disturbance is over
	}{
		{"by a failure", func(e *ending) { e.failed = true }, false},
		{"because nothing is left", func(e *ending) { e.idle, e.limited = true, false }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			u := &tuned{tuner: newTuner(4, 64), useful: 64}
			for u.want == 4 {
				u.run(time.Millisecond, nil)
			}
			u.run(time.Millisecond, row.alter)
			require.Equal(t, []int{8, 4}, u.lanes())
			u.run(10*time.Second, nil)
			require.Equal(t, row.again, u.want == 64)
			u.run(time.Minute, nil)
			require.True(t, slices.Contains(u.lanes(), 64))
		})
	}
}

// A trial waits for each new lane, but not without end.
func TestATrialWaitsForItsLanes(t *testing.T) {
	u := &tuned{tuner: newTuner(4, 64), useful: 64}
	for u.want == 4 {
		u.run(time.Millisecond, nil)
	}
	u.run(300*time.Millisecond, func(e *ending) { e.heard = false })
	require.Equal(t, 8, u.want)
	require.Equal(t, 4, u.from)
	require.Zero(t, u.since, "it has not begun to measure")
	u.run(time.Second, func(e *ending) { e.heard = false })
	require.Greater(t, u.want, 8)
}

// The server becomes the limit of a Publisher with many lanes.
func TestTheNumberOfLanesFollowsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{delay: 50 * time.Millisecond, cfg: Config[parcel, int]{MaxLanes: 64, MaxItems: 2000, LaneItems: 500}}
		e := l.send(t, 200_000)
		require.Equal(t, 64, lanesOf(e))
		l.mu.Lock()
		l.perItem = time.Millisecond
		l.mu.Unlock()
		l.produce(t, e, 400_000)
		require.LessOrEqual(t, lanesOf(e), 8)
		_, err := e.Close(t.Context())
		require.NoError(t, err)
	})
}
