package sim

import (
	"bytes"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/sequintest"
)

// suffer makes one fault happen: it waits for its time, and ends it.
func (w *world) suffer(f faultPlan) {
	time.Sleep(f.At)
	switch f.Kind {
	case away:
		w.leave()
		time.Sleep(f.For)
		w.comeBack()
	case cutAll:
		w.srv.CutConnections()
	default:
		h := w.srv.Fault(f.fault())
		if f.For > horizon { // the server's nature
			return
		}
		time.Sleep(f.For)
		h.Remove()
	}
}

// leave and comeBack count, because several faults may want the server away at once.
func (w *world) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away++; w.away == 1 {
		w.l.awaySince(time.Now())
		w.srv.Down()
	}
}

func (w *world) comeBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away--; w.away == 0 {
		w.srv.Up()
		w.l.backSince(time.Now())
	}
}

// largest is what a body may have before tooLarge strikes: more than any one message of a schedule.
const largest = 2 << 10

// fault translates a plan for sequintest.
func (f faultPlan) fault() sequintest.Fault {
	out := sequintest.Fault{Op: f.Op}
	strikes := func(*sequintest.Request) bool { return true }
	switch f.Kind {
	case cutBefore:
		out.CutBefore = true
	case cutAfter:
		out.CutAfter = true
	case truncate:
		out.Truncate = 7
	case garble:
		out.Garble = true
	case slow:
		out.DelayAfter = max(f.Delay, time.Millisecond)
	case slowToAct:
		out.Delay = max(f.Delay, time.Millisecond)
	case timeout408:
		out.Status = http.StatusRequestTimeout
	case lost504:
		out.Status, out.Acted = http.StatusGatewayTimeout, true
	case limited:
		out.Status = http.StatusTooManyRequests
	case limited5:
		out.Status, out.Header = http.StatusTooManyRequests, http.Header{"Retry-After": {"5"}}
	case crash:
		out.Status, out.Body = http.StatusInternalServerError, bare500
	case crashed:
		out.Status, out.Body, out.Acted = http.StatusInternalServerError, bare500, true
	case html502:
		out.Status, out.Body = http.StatusBadGateway, "<html><h1>502 Bad Gateway</h1></html>"
	case busy503:
		out.Status = http.StatusServiceUnavailable
	case full:
		out.Status, out.Body = http.StatusConflict, `{"summary":"the stream is full"}`
	case forbidden:
		out.Status, out.Body = http.StatusForbidden, `{"summary":"not with this token"}`
	case gone404:
		out.Status, out.Body = http.StatusNotFound, "<html>nothing here</html>"
	case tooLarge:
		out.Status = http.StatusRequestEntityTooLarge
		strikes = func(r *sequintest.Request) bool { return len(r.Body) > largest }
	case poison400:
		out.Status, out.Body = http.StatusBadRequest, `{"summary":"poison"}`
		strikes = poisoned
	case poison500:
		out.Status, out.Body = http.StatusInternalServerError, bare500
		strikes = poisoned
	}
	var seen atomic.Int64
	out.Match = func(r *sequintest.Request) bool {
		return strikes(r) && seen.Add(1)%int64(f.Every) == 0 && spared(r)
	}
	return out
}

const bare500 = `{"errors":{"detail":"Internal Server Error"}}`

func poisoned(r *sequintest.Request) bool { return bytes.Contains(r.Body, []byte(poison)) }

// spared lets the requests of the run itself pass.
func spared(r *sequintest.Request) bool { return r.Header.Get("User-Agent") != director }
