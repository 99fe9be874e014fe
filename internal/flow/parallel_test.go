package flow

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFewerReceivesRunAtOnceWhileTheirAnswersAreTooSlow(t *testing.T) {
	p := NewParallel(5, 5)
	require.Equal(t, 5, p.Size())
	p.TooSlow(time.Now(), 0)
	require.Equal(t, 5, p.Size(), "it ran alone")
	for _, want := range []int{2, 1, 1} {
		p.TooSlow(time.Now(), 4)
		require.Equal(t, want, p.Size())
	}
	p.Arrived(time.Now(), Arrival{Took: 10 * time.Second, Lease: 40 * time.Second})
	require.Equal(t, 1, p.Size(), "two might take half of the lease")
	for _, want := range []int{2, 3, 4, 5, 5} {
		p.Arrived(time.Now(), Arrival{Took: time.Second, Lease: 40 * time.Second})
		require.Equal(t, want, p.Size())
	}
}

// receiver makes receives of 1,000 messages, as many at once as a Parallel says.
type receiver struct {
	p      Parallel
	now    time.Time
	takes  func(running int) time.Duration // how long a receive takes that starts beside others
	full   bool                            // answers are
	starve bool                            // the program waits for messages
	room   int                             // for how many receives there is room
	window Round

	running []*pending
	laps    map[int]int   // how many have ended with each size
	least   time.Duration // that one took
}

type pending struct {
	lap       int
	from, end time.Time
}

func newReceiver(first, most int, takes func(int) time.Duration) *receiver {
	return &receiver{p: NewParallel(first, most), now: time.Now(), takes: takes, full: true, starve: true, room: most, laps: map[int]int{}, least: time.Hour}
}

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

// run runs receives for a time, and returns how many ran at once at most.
func (r *receiver) run(d time.Duration) (peak int) {
	for until := r.now.Add(d); r.now.Before(until); {
		for len(r.running) < min(r.p.Size(), r.room) {
			r.running = append(r.running, &pending{lap: r.p.Start(), from: r.now, end: r.now.Add(r.takes(len(r.running)))})
		}
		if len(r.running) < r.room {
			r.p.Limits(func() bool { return true })
		}
		peak = max(peak, len(r.running))
		next := slices.MinFunc(r.running, func(a, b *pending) int { return a.end.Compare(b.end) })
		r.running = slices.DeleteFunc(r.running, func(x *pending) bool { return x == next })
		r.now = next.end
		r.p.End(next.lap)
		if !r.full {
			r.p.NotFull()
		}
		size, was := r.p.Size(), r.p.lap
		r.p.Arrived(r.now, Arrival{Lap: next.lap, Messages: 1000, Full: r.full, Starved: r.starve, Took: r.now.Sub(next.from), Lease: 30 * time.Second, Window: r.window})
		if r.p.lap.number > was.number {
			r.laps[size]++
			r.least = min(r.least, r.now.Sub(was.began))
		}
	}
	return peak
}

func TestMoreReceivesRunAtOnceOverALongLink(t *testing.T) {
	r := newReceiver(2, 64, always(50*time.Millisecond))
	require.Equal(t, 64, r.run(15*50*time.Millisecond), "three round trips for each time that the number doubles")
	require.Equal(t, 64, r.p.Size())
	r = newReceiver(2, 5, always(50*time.Millisecond))
	r.room = 64
	require.Equal(t, 5, r.run(time.Second))
}

// The times from one answer to the next differ much then, and say little.
func TestMoreReceivesRunAtOnceThoughTheyAreNotInStep(t *testing.T) {
	r := newReceiver(2, 64, always(50*time.Millisecond))
	first := true
	r.takes = func(int) time.Duration {
		defer func() { first = false }()
		if first {
			return 12 * time.Millisecond
		}
		return 50 * time.Millisecond
	}
	require.Equal(t, 64, r.run(time.Second))
	require.Equal(t, 50*time.Millisecond, r.least, "a lap lasts a round trip")
}

func TestTheNumberOfReceivesStaysWhereMoreAreOfNoUse(t *testing.T) {
	for name, change := range map[string]func(r *receiver){
		"a short link":              func(r *receiver) { r.takes = always(far - 1) },
		"the program is busy":       func(r *receiver) { r.starve = false },
		"there is no room for more": func(r *receiver) { r.room = 2 },
		"answers are not full":      func(r *receiver) { r.full = false },
		"the number is set":         func(r *receiver) { r.p = NewParallel(2, 2) },
		"the window grows": func(r *receiver) {
			r.takes = func(int) time.Duration { r.window.changes++; return 50 * time.Millisecond }
		},
	} {
		r := newReceiver(2, 64, always(50*time.Millisecond))
		change(r)
		require.Equal(t, 2, r.run(time.Minute), name)
		require.Equal(t, 2, r.p.Size(), name)
	}
}

// The server works on one receive after another.
func TestReceivesThatDoNotHelpAreTriedAgainOnlyAfterAWhile(t *testing.T) {
	r := newReceiver(2, 64, nil)
	r.takes = func(running int) time.Duration {
		free := r.now
		for _, x := range r.running {
			if x.end.After(free) {
				free = x.end
			}
		}
		return free.Add(30 * time.Millisecond).Sub(r.now)
	}
	require.Equal(t, 4, r.run(time.Second), "a trial")
	require.Equal(t, 2, r.p.Size())
	require.Equal(t, 1+trialLaps, r.laps[4], "in the first one the receives from before are answered")
	require.Equal(t, 2, r.run(uselessFor-2*time.Second))
	require.Equal(t, 4, r.run(4*time.Second), "the link may be another one now")
	require.Equal(t, 2, r.p.Size())
}

func TestANumberThatHelpedIsReachedWithoutATrialAfterAnAnswerThatIsNotFull(t *testing.T) {
	r := newReceiver(2, 16, always(50*time.Millisecond))
	require.Equal(t, 16, r.run(time.Second))
	r.full = false
	r.run(60 * time.Millisecond)
	require.Equal(t, 2, r.p.Size())
	require.Equal(t, 2, r.run(time.Minute))
	r.full, r.starve = true, false
	for range 14 {
		before := r.p.Size()
		r.p.Arrived(r.now, Arrival{Lap: -1, Messages: 1000, Full: true, Took: 50 * time.Millisecond, Lease: 30 * time.Second})
		require.Equal(t, before+1, r.p.Size(), "one for each full answer")
	}
	require.Equal(t, 16, r.run(time.Minute))
}

func TestMoreReceivesThanThereIsRoomForDoNoHarm(t *testing.T) {
	r := newReceiver(2, 64, always(50*time.Millisecond))
	r.room = 9
	require.Equal(t, 9, r.run(10*time.Second), "nine are an eighth faster than eight")
	require.Equal(t, 16, r.p.Size())
}

func TestAfterALateAnswerFewerReceivesRunForAMinute(t *testing.T) {
	r := newReceiver(2, 64, always(50*time.Millisecond))
	r.run(time.Second)
	r.p.TooSlow(r.now, 63)
	r.p.TooSlow(r.now, 31)
	require.Equal(t, 16, r.p.Size())
	r.running = nil
	r.p.lap.old, r.p.lap.new = 0, 0
	require.Equal(t, 16, r.run(tooLargeFor-time.Second))
	require.Equal(t, 64, r.run(2*time.Second))
}
