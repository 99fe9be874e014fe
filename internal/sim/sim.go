// Package sim shows that nothing is lost. From one seed it draws a schedule of publishers, workers and faults, plays it
// with the real client and the embedded server in virtual time, and holds what happened against the promises of the
// package comment of sequin, as seen from outside: by the programs, by a tap between each client and its connections, and
// by the server's journal. A run of minutes takes milliseconds.
//
//	go test ./internal/sim                        500 seeds, 60 under the race detector
//	go test ./internal/sim -sim.seeds 10000       more
//	go test ./internal/sim -sim.seed 1234         one
//
// A failure tells the seed, the shortest schedule that still fails, and what happened to the message that it is about.
//
// # What is and what is not drawn
//
// Everything that the schedule says comes from the seed, and so does what a worker does with a delivery. How goroutines
// interleave does not, nor does the jitter of the client's own backoff. So a seed that fails may pass when it is run again;
// the shrinker tries each smaller schedule several times.
package sim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// run plays a schedule and returns what happened. Violations are in the ledger: t fails only for a schedule that makes no
// sense.
func run(t *testing.T, s schedule) *ledger {
	t.Helper()
	l := newLedger(s)
	inBubble(t, l, func(t *testing.T) { newWorld(t, l).play() })
	return l
}

func inBubble(t *testing.T, l *ledger, f func(*testing.T)) {
	t.Helper()
	defer func() {
		// synctest panics here, on this goroutine, when something is left in the bubble that can never go on.
		if left := recover(); left != nil {
			l.violate("no goroutine is left", "%v", left)
		}
	}()
	synctest.Test(t, f)
}

// violation is a promise that did not hold.
type violation struct {
	promise  string
	text     string
	consumer string // where one is affected
	key      string // of the affected message
	at       time.Time
}

func (v violation) String() string { return v.promise + ": " + v.text }

// judge makes all checks and returns what they found.
func judge(l *ledger) []violation {
	found := l.violations
	if len(found) > 0 && !l.complete {
		return found // the rest would follow from the run's having broken off
	}
	h := newHistory(l)
	for _, c := range checks {
		for _, v := range c.check(h) {
			v.promise = c.promise
			found = append(found, v)
		}
	}
	return found
}

// check is one promise.
type check struct {
	promise string
	check   func(*history) []violation
}

// checks are in the order in which a reader learns most: what is lost first.
var checks = []check{
	{"every accepted message has one fate, told once", oneFate},
	{"what is told as sent is stored", sentIsStored},
	{"what was not accepted is not sent", refusedIsNotSent},
	{"a publisher's totals add up", totalsAddUp},
	{"what is sent stays, or a newer version of its key", storedIsKept},
	{"every message in the stream was handed to a program and acked by it, for each consumer", deliveredToAll},
	{"an acked message is not delivered again", ackedStaysAcked},
	{"what is handed over is what was sent", intact},
	{"nothing is handed over after its deadline, and that is before the server's", handedInTime},
	{"no settle leaves without a settle of a program, or a message to give back, whose deadline is to come", settledInTime},
	{"a settle that may have been carried out is not repeated", settledOnce},
	{"no settle removes what another worker holds", nobodyElses},
	{"versions of a key are stored in the order of their sends", storedInOrder},
	{"versions of a key are handed over in order", handedInOrder},
	{"a batch is within its limits", batchesWithinLimits},
	{"MaxInFlight is never exceeded", inFlightBounded},
	{"MaxBuffered is never exceeded", bufferedBounded},
	{"a stop gives back what was not handed out", stopsGiveBack},
	{"room is given back", roomGivenBack},
	{"the request rate is bounded while the server is away", rateBounded},
}

// when says at which moment a promise was broken, where there is one.
func (v violation) when(at time.Time) violation { v.at = at; return v }

func (h *history) violation(consumer, key, format string, args ...any) violation {
	return violation{text: fmt.Sprintf(format, args...), consumer: consumer, key: key}
}
