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
	// askFor is how long the stop asks about a receive that the server does not know: it may be on its way to the server, or have
	// been answered just now, or be known to another server on the same store. After that the receive is cancelled.
	askFor = 100 * time.Millisecond
	// askAgainAfter is when the stop asks again. It doubles each time, which makes five requests.
	askAgainAfter = 5 * time.Millisecond
	// cancellationGrace is how long a stop waits for the server to notice that a waiting receive was cancelled, before it
	// returns messages. Over loopback the server needs up to half a millisecond. Over a longer distance the cancellation and
	// the nack that follows it are delayed equally.
	cancellationGrace = time.Millisecond
)

// endReceives ends the receives that wait at the server, and returns their messages. It leaves alone those that are being answered,
// and the young ones of a server that cannot end them.
func (lp *subscriberLoop) endReceives(began time.Time) {
	for {
		now := time.Now()
		next := earlier(lp.askToEnd(now, began), now.Add(askFor))
		cancelNext := lp.cancelReceives(now, began)
		if !slices.ContainsFunc(lp.receives, func(p *receiving) bool { return p.holdsUp(now) }) {
			return
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

// askToEnd asks a server that can end receives to end those that wait there. It asks again about those that are unknown. It returns
// when to call it again.
func (lp *subscriberLoop) askToEnd(now, began time.Time) (next time.Time) {
	next = now.Add(never)
	s := lp.sub
	if !s.client.extensions().Has(wire.EndReceive) || s.origin.sink != "" || s.receiving.Err() != nil || now.Sub(began) >= askFor {
		return next
	}
	for _, p := range lp.receives {
		again := p.end.at.Add(askAgainAfter << max(0, p.end.asked-1))
		switch {
		case !p.waits() || p.end.is == asking || p.end.is == ending:
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
	r := request{method: http.MethodPost, path: s.origin.path + "/end_receive", timeout: askFor,
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
	case p.end.is == asking:
		return true
	case p.end.is == ending: // until its answer is there, which is empty or small
		return now.Before(p.end.at.Add(askFor))
	case p.end.is == unknown:
		return p.waits()
	}
	return p.waits() && !now.Before(p.started.Add(waitingReceiveGrace))
}

// cancelReceives cancels the receives that have run for as long as the stop lets them. It returns when to call it again. A cancelled
// receive reports at once.
func (lp *subscriberLoop) cancelReceives(now, began time.Time) (next time.Time) {
	next = now.Add(never)
	for _, p := range lp.receives {
		if until := p.mayRunUntil(began); now.Before(until) {
			if until.Before(next) {
				next = until
			}
			continue
		}
		p.cancel()
		lp.cancelledAt = now
	}
	return next
}

// awaitCancellations waits until the server has noticed that receives were cancelled, if any were and messages are to be returned.
func (lp *subscriberLoop) awaitCancellations() {
	if inFlight, _ := lp.sub.ledger.InFlight(); inFlight > 0 {
		time.Sleep(time.Until(lp.cancelledAt.Add(cancellationGrace)))
	}
}

// mayRunUntil is the time at which a stop that began at began cancels the receive.
func (p *receiving) mayRunUntil(began time.Time) time.Time {
	switch {
	case p.waits() && p.end.is == notAsked:
		return p.started.Add(waitingReceiveGrace)
	case p.waits() && p.end.is == unknown:
		return began.Add(askFor)
	}
	return began.Add(receiveGrace)
}
