package sim

import (
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/sequintest"
)

// inject waits until a fault is due, makes it happen, and ends it.
func (w *world) inject(f faultPlan) {
	time.Sleep(f.At)
	switch f.Kind {
	case down:
		w.takeDown()
		time.Sleep(f.For)
		w.bringUp()
	case resetAll:
		w.srv.CutConnections()
	default:
		h := w.srv.Fault(f.fault())
		if f.For > horizon { // it lasts for the whole run
			return
		}
		time.Sleep(f.For)
		h.Remove()
	}
}

// fault returns the Fault of a plan.
func (f faultPlan) fault() sequintest.Fault {
	kind := faultKinds[f.Kind]
	out := kind.fault
	out.Op = f.Op
	switch delay := max(f.Delay, time.Millisecond); kind.delay {
	case delayAnswer:
		out.DelayAfter = delay
	case delayRequest:
		out.Delay = delay
	}
	var matched atomic.Int64
	out.Match = func(r *sequintest.Request) bool {
		applies := kind.matches == nil || kind.matches(r)
		return applies && matched.Add(1)%int64(f.Every) == 0 && r.Header.Get("User-Agent") != director
	}
	return out
}
