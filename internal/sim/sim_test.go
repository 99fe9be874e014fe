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
	from  = flag.Uint64("sim.from", 1, "the first of them")
	seed  = flag.Uint64("sim.seed", 0, "the one seed to run; 0 runs -sim.seeds")
)

// shrinkFor bounds the search for a shorter schedule; one of a few lines is found within seconds.
const shrinkFor = 30 * time.Second

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

// hangs is long after the longest run has ended, on a busy machine with the race detector too. What goes round in circles
// without virtual time passing can only be ended with the process.
const hangs = 3 * time.Minute

// play runs a schedule, and when it fails looks for a shorter one and tells everything.
func play(t *testing.T, s schedule) {
	t.Helper()
	watch := time.AfterFunc(hangs, func() { panic(fmt.Sprintf("the simulation has not ended within %v:\n%v", hangs, s)) })
	found := judge(run(t, s))
	watch.Stop()
	if len(found) == 0 {
		return
	}
	promise := found[0].promise
	var l *ledger
	var shortest []violation
	short := shrink(s, shrinkFor, func(c schedule) bool {
		again := run(t, c)
		for _, v := range judge(again) {
			if v.promise == promise {
				l, shortest = again, []violation{v}
				return true
			}
		}
		return false
	})
	var b strings.Builder
	for _, v := range found[:min(len(found), 10)] {
		fmt.Fprintf(&b, "  %v\n", v)
	}
	t.Errorf("seed %d breaks %d times:\n%s", s.Seed, len(found), b.String())
	if l == nil { // nothing shorter fails
		t.Errorf("the shortest schedule that fails is the whole of it:\n%v", s)
		return
	}
	v := shortest[0]
	t.Errorf("the shortest schedule that fails, with %v:\n%v", v, short)
	if v.key != "" {
		t.Errorf("the last that happened to key %s:\n%s", v.key, tell(l, v))
	}
}
