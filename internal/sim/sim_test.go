package sim

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	seeds = flag.Uint64("sim.seeds", defaultSeeds, "how many seeds to run")
	from  = flag.Uint64("sim.from", 1, "the first seed")
	seed  = flag.Uint64("sim.seed", 0, "the one seed to run; 0 runs -sim.seeds")
	// A schedule of a few lines is usually found within seconds.
	shrinkFor = flag.Duration("sim.shrink", 30*time.Second, "how long to look for a shorter schedule that fails")
)

func TestNothingIsLost(t *testing.T) {
	first, last := *from, *from+*seeds-1
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for n := first; n <= last; n++ {
		t.Run(fmt.Sprintf("seed=%d", n), func(t *testing.T) {
			t.Parallel()
			play(t, draw(n))
		})
	}
}

// runTimeout is much longer than the longest run takes on a busy machine with the race detector. A run that loops while
// virtual time stands still can only be ended with the process.
const runTimeout = 3 * time.Minute

// play runs a schedule. If it fails, play looks for a shorter schedule that fails too, and prints both failures.
func play(t *testing.T, s schedule) {
	t.Helper()
	watch := time.AfterFunc(runTimeout, func() { panic(fmt.Sprintf("the simulation has not ended within %v:\n%v", runTimeout, s)) })
	found := verify(run(t, s))
	watch.Stop()
	if len(found) == 0 {
		return
	}
	promise := found[0].promise
	var rec *recorder
	var shortest []violation
	short := shrink(s, *shrinkFor, func(c schedule) bool {
		again := run(t, c)
		for _, v := range verify(again) {
			if v.promise == promise {
				rec, shortest = again, []violation{v}
				return true
			}
		}
		return false
	})
	var b strings.Builder
	for _, v := range found[:min(len(found), 10)] {
		fmt.Fprintf(&b, "  %v\n", v)
	}
	t.Errorf("seed %d has %d violations:\n%s", s.Seed, len(found), b.String())
	if rec == nil {
		t.Errorf("no shorter schedule fails than the whole one:\n%v", s)
		return
	}
	v := shortest[0]
	t.Errorf("the shortest schedule that fails, with %v:\n%v", v, short)
	if v.key != "" {
		t.Errorf("the last events of key %s:\n%s", v.key, explain(rec, v))
	}
}
