package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sequin-go/sequin/server"
)

// OpenStore opens the store of a run's server, in the bubble of t. cut resets every connection to the server, as the end of
// its process does: a store that simulates a crash calls it.
type OpenStore func(t *testing.T, seed uint64, cut func()) server.Store

// Run runs the schedule of a seed, without max_deliver, on another store than that in memory, and fails t if a promise is
// broken. A failure is
// reduced to a short schedule for as long as budget. Run returns false for a seed of the 2024 mode or of sinks, which have
// stores of their own.
func Run(t *testing.T, seed uint64, open OpenStore, budget time.Duration) bool {
	t.Helper()
	s := draw(seed)
	if s.Mode != server.Documented || s.Sinks {
		return false
	}
	s.Store = open
	for i := range s.Consumers {
		s.Consumers[i].MaxDeliver = 0 // a crash may count deliveries whose answers were not made
	}
	try(t, s, budget)
	return true
}

// runTimeout is much longer than the longest run takes on a busy machine with the race detector. A run that loops while
// virtual time stands still can only be ended with the process.
const runTimeout = 3 * time.Minute

// try runs a schedule. If it fails, try looks for a shorter schedule that fails too, for as long as budget, and prints both
// failures.
func try(t *testing.T, s schedule, budget time.Duration) {
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
	short := shrink(s, budget, func(c schedule) bool {
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
