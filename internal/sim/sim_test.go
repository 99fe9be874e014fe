package sim

import (
	"flag"
	"fmt"
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
			try(t, draw(n), *shrinkFor)
		})
	}
}
