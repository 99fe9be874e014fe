package sim

import (
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/sequintest"
)

// inject waits until a fault is due, makes it happen, and ends it.
func (w *world) inject(f faultPlan) {
	time.Sleep(f.At)
	end := w.begin(f)
	if f.For == wholeRun {
		return
	}
	time.Sleep(f.For)
	end()
}

// begin makes a fault happen, and returns the function that ends it.
func (w *world) begin(f faultPlan) (end func()) {
	switch form := faultForms[f.Kind]; {
	case f.Kind == down:
		w.takeDown()
		return w.bringUp
	case f.Kind == resetAll:
		w.srv.CutConnections()
		return func() {}
	case f.Kind == sinkRestart:
		w.restart()
		return func() {}
	case f.Kind == slowDial, f.Kind == failedHandshake:
		over, stopDropping := w.weather.begin(f), w.dropIdle()
		return func() { over(); stopDropping() }
	case form.onRoute:
		return w.weather.begin(f)
	}
	return w.srv.Fault(f.fault(w.s.Seed)).Remove
}

// fault returns the Fault of a plan.
func (f faultPlan) fault(seed uint64) sequintest.Fault {
	form := faultForms[f.Kind]
	out := form.fault
	switch f.Kind {
	case foreign:
		out = pageOf(f.Status)
		out.Acted = f.Acted
	case refusal:
		out = answers(f.Status, `{"summary":"`+http.StatusText(f.Status)+`"}`)
	}
	out.Op = f.Op
	switch delay := max(f.Delay, time.Millisecond); form.delay {
	case delayAnswer:
		out.DelayAfter = delay
	case delayRequest:
		out.Delay = delay
	}
	var matched atomic.Int64
	out.Match = func(r *sequintest.Request) bool {
		applies := form.matches == nil || form.matches(f, r)
		return applies && f.selects(seed, matched.Add(1)) && r.Header.Get("User-Agent") != director
	}
	return out
}

// selects reports whether the fault applies to the n-th request that matches. It is random, because attempts at a message and
// the sends between them may alternate: what fails every second request looks to a Publisher as if that message made it fail.
func (f faultPlan) selects(seed uint64, n int64) bool {
	return drawer{rand.New(rand.NewPCG(seed^uint64(f.At), uint64(n)))}.chance(f.Share)
}
