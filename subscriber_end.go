package sequin

import (
	"net/http"
	"slices"
	"time"

	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// A stop asks a server that announces end-receive to end the receives that wait there, so that it loses nothing and waits for
// nothing. It cancels the receives of any other server.
const (
	// waitingReceiveGrace and receiveGrace are how long a stop lets a receive run. A receive that waits at the server and has
	// had no answer for 100 ms most likely waits for a message, and cancelling it loses nothing. Any other receive is being
	// answered now. If it were cancelled, its messages would stay leased until their leases end.
	waitingReceiveGrace = 100 * time.Millisecond
	receiveGrace        = 2 * time.Second
	// askTimeout bounds such a request. It is far longer than a round trip, and about as long as what the stop saves.
	askTimeout = 100 * time.Millisecond
	// askAgainAfter is when the stop asks again about a young receive that the server does not know. The receive is most likely
	// on its way there.
	askAgainAfter = 5 * time.Millisecond
	// arrivalGrace is how long the stop lets a receive run that the server does not know any more. Its answer was sent before
	// that of the server to the stop.
	arrivalGrace = 10 * time.Millisecond
)

// endReceives ends the receives that wait at the server, and returns their messages. It reports whether it has cancelled any. It
// leaves alone those that are being answered, and young ones that the server does not know.
func (lp *subscriberLoop) endReceives(began time.Time) (cancelled bool) {
	for {
		now := time.Now()
		next := earlier(lp.askToEnd(now), now.Add(askTimeout))
		cancelNext, n := lp.cancelReceives(now, began)
		cancelled = cancelled || n > 0
		if !slices.ContainsFunc(lp.receives, func(p *receiving) bool { return p.holdsUp(now) }) {
			return cancelled
		}
		lp.awaitEvent(earlier(next, cancelNext))
	}
}

// endingState is what a stop knows about a receive that waits at the server.
type endingState struct {
	is    int       // notAsked, asking, ending or unknown
	at    time.Time // when the last request to end it was answered
	asked int       // how many such requests were answered
}

const (
	notAsked = iota
	asking
	ending  // its answer is on its way
	unknown // to the server that answered, or it cannot be asked
)

// ask is the outcome of a request to end a receive.
type ask struct {
	of *receiving
	is int // ending or unknown
}

// askToEnd asks a server that can end receives to end those that wait there. It asks again about young ones that are unknown. It
// returns when to call it again.
func (lp *subscriberLoop) askToEnd(now time.Time) (next time.Time) {
	next = now.Add(never)
	s := lp.sub
	if !s.client.extensions().Has(wire.EndReceive) || s.origin.sink != "" || s.receiving.Err() != nil {
		return next
	}
	for _, p := range lp.receives {
		again := p.end.at.Add(askAgainAfter << p.end.asked)
		switch {
		case !p.waits() || p.end.is == asking || p.end.is == ending:
		case p.end.is == unknown && !now.Before(p.started.Add(waitingReceiveGrace)):
		case now.Before(again):
			next = earlier(next, again)
		default:
			p.end.is = asking
			lp.asking++
			go lp.ask(p)
		}
	}
	return next
}

// ask makes a request to end a receive, and reports its outcome to the loop.
func (lp *subscriberLoop) ask(p *receiving) {
	s := lp.sub
	r := request{method: http.MethodPost, path: s.origin.path + "/end_receive", timeout: askTimeout,
		body: &transport.Payload{JSON: wire.AppendEndReceive(nil, p.id)}}
	r.stream, r.consumer = s.origin.names()
	got, err := decoded[data[endedJSON]](s.receiving, s.client, r)
	is := unknown
	if err == nil && *got.Data.Ended {
		is = ending
	}
	lp.asks <- ask{p, is} // has room for every poller
}

// endedJSON is the answer to a request to end a receive.
type endedJSON struct {
	Ended *bool `json:"ended"`
}

func (e *endedJSON) complete() error { return wire.RequireField(e.Ended != nil, "ended") }

// waits reports whether the receive waits at the server, as far as the client knows.
func (p *receiving) waits() bool { return p.wait > 0 && !p.answered.Load() }

// holdsUp reports whether the receive might get a message that a stop returns, and lose it.
func (p *receiving) holdsUp(now time.Time) bool {
	switch {
	case !p.waits():
		return false
	case p.end.is == asking:
		return true
	case p.end.is == ending:
		return now.Before(p.end.at.Add(askTimeout))
	}
	return !now.Before(p.started.Add(waitingReceiveGrace))
}

// cancelReceives cancels the receives that have run for as long as the stop lets them. It returns when to call it again, and
// how many receives are cancelled and have not reported yet. A cancelled receive reports at once.
func (lp *subscriberLoop) cancelReceives(now, began time.Time) (next time.Time, cancelled int) {
	next = now.Add(never)
	for _, p := range lp.receives {
		if until := p.mayRunUntil(began); now.Before(until) {
			if until.Before(next) {
				next = until
			}
			continue
		}
		p.cancel()
		cancelled++
	}
	return next, cancelled
}

// mayRunUntil is the time at which a stop that began at began cancels the receive.
func (p *receiving) mayRunUntil(began time.Time) time.Time {
	young := p.started.Add(waitingReceiveGrace)
	switch {
	case p.waits() && p.end.is == notAsked:
		return young
	case p.waits() && p.end.is == unknown && p.end.at.Add(arrivalGrace).After(young):
		return p.end.at.Add(arrivalGrace)
	case p.waits() && p.end.is == unknown:
		return young
	}
	return began.Add(receiveGrace)
}
