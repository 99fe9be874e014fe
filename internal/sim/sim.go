// Package sim tests the guarantees of package sequin by simulation. From a seed it draws a schedule of publishers, workers
// and faults, runs it with the real client and the embedded server in virtual time, and checks the guarantees of
// docs/guarantees.md. Minutes of virtual time take milliseconds.
//
//	go test ./internal/sim                        500 seeds, 60 under the race detector
//	go test ./internal/sim -sim.seeds 10000       more seeds
//	go test ./internal/sim -sim.seed 1234         one seed
//	go test ./internal/sim -sim.shrink 0          a failure is not reduced to a short schedule
//
// A failure prints the seed, the shortest schedule that still fails, and the last events of the message concerned.
//
// # How a run is observed
//
// The client is observed from outside only, at three places, and each has a record of its own:
//
//   - The programs, which are the publishers and the workers of the schedule, report to the recorder which messages they
//     sent, received and settled, and what the client returned.
//   - A tap is the http.RoundTripper of one client. It adds each request to the recorder as the client sees it, and
//     disconnects the client when its program is killed. Behind it is the client's route to the server: a proxy, a balancer
//     and a link, with their limits.
//   - The journal of package sequintest holds each request as the server saw it. The recorder takes a copy at the end.
//
// The recorder only collects. After the run, newHistory joins the three records into a history: which lease of the server
// belongs to which delivery in a program, and which request settled it. The checks read the history.
//
// # What is drawn
//
// A schedule has a mode of the server and the extensions that it lacks. Where leases can be extended, handlers work on after their
// first lease, and programs extend leases. Where lists have pages, the stream is read with them in the end. Some messages have headers, which
// fail where the server has none, and some runs purge the stream. The third mode is a server of sinks: its publishers
// change the rows of a table, and it may be restarted. The faults are the server's own refusals, and what happens on the way
// to it: pages of proxies with any status, before or after the server has acted; a firewall that refuses one message, by a
// page, a reset or silence; limits on the size of a request or an answer, and on the time for it; slow links; dials that are
// slow, or fail while another connection comes free; one broken backend of several; bare 500s at random. The checks know which
// of these may fail a message, repeat a request or end a Subscriber.
//
// The schedule, and what a worker does with a delivery, follow from the seed. The order in which goroutines run does not,
// and neither does the jitter of the client's backoff. A seed that failed may therefore pass when it is run again, and the
// shrinker tries each smaller schedule several times.
package sim

import (
	"testing"
	"testing/synctest"
)

// run runs a schedule and returns what was recorded, including violations. It fails t only for an invalid schedule.
func run(t *testing.T, s schedule) *recorder {
	t.Helper()
	rec := newRecorder(s)
	inBubble(t, rec, func(t *testing.T) { newWorld(t, rec).play() })
	return rec
}

func inBubble(t *testing.T, rec *recorder, f func(*testing.T)) {
	t.Helper()
	defer func() {
		// synctest panics on this goroutine when a goroutine of the bubble is blocked for ever.
		if blocked := recover(); blocked != nil {
			rec.violate("no goroutine is left", "%v", blocked)
		}
	}()
	synctest.Test(t, f)
}

// verify makes all checks and returns the violations, including those that were found during the run.
func verify(rec *recorder) []violation {
	found := rec.violations
	if len(found) > 0 && !rec.complete {
		return found // the checks would report only consequences of the early end
	}
	h := newHistory(rec)
	for _, c := range checks {
		for _, v := range c.check(h) {
			v.promise = c.promise
			found = append(found, v)
		}
	}
	return found
}
