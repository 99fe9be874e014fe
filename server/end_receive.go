package server

import (
	"sync"
	"time"
)

// receiveID names a receive that waits: the id of its consumer, and its X-Request-Id.
type receiveID struct{ consumer, request string }

// endings are the receives that wait, so that another request can end one of them. The zero value is ready for use.
type endings struct {
	mu    sync.Mutex // guards all below
	all   map[receiveID]*ending
	early []earlyEnd // by time
}

// earlyEnd is a request to end a receive that did not wait. The receive may have been sent before it and arrive after it.
type earlyEnd struct {
	id receiveID
	at time.Time
}

const (
	// earlyFor is how long such a request is remembered. A receive that takes another connection is late by much less.
	earlyFor = time.Second
	// maxEarly bounds how many are remembered: each is one that a Subscriber makes as it stops.
	maxEarly = 1_000
)

// ending is shared by the receives of one id: a client may repeat a receive while the first attempt still waits.
type ending struct {
	receives int
	asked    bool
	ask      chan struct{} // closed when the receives are to end
}

// enter adds a receive, and returns a channel that is closed when it is to end.
func (e *endings) enter(id receiveID) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.all[id]
	if of == nil {
		if e.all == nil {
			e.all = map[receiveID]*ending{}
		}
		of = &ending{ask: make(chan struct{})}
		e.all[id] = of
	}
	of.receives++
	if e.cameEarly(id) {
		of.end()
	}
	return of.ask
}

// cameEarly reports whether somebody has asked to end the receive a moment ago, and forgets it.
func (e *endings) cameEarly(id receiveID) bool {
	e.forget()
	for i := range e.early {
		if e.early[i].id == id {
			e.early = append(e.early[:i], e.early[i+1:]...)
			return true
		}
	}
	return false
}

// forget removes the requests that are too old.
func (e *endings) forget() {
	old := 0
	for old < len(e.early) && (time.Since(e.early[old].at) > earlyFor || len(e.early)-old > maxEarly) {
		old++
	}
	if e.early = e.early[old:]; len(e.early) == 0 {
		e.early = nil
	}
}

func (of *ending) end() {
	if !of.asked {
		of.asked = true
		close(of.ask)
	}
}

func (e *endings) leave(id receiveID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.all[id]
	if of.receives--; of.receives == 0 {
		delete(e.all, id)
	}
}

// end ends the receives of an id, and reports whether there is one. One that arrives a moment later does not wait.
func (e *endings) end(id receiveID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.all[id]
	if of == nil {
		e.early = append(e.early, earlyEnd{id, time.Now()})
		e.forget()
		return false
	}
	of.end()
	return true
}

// endReceive ends a receive that waits. Only the documented mode has this route.
func (c *call) endReceive() error {
	if !c.srv.endsReceives {
		c.answered.Route = otherRoute
		return c.noRoute()
	}
	buf, err := c.jsonBody()
	defer putBuffer(buf)
	if err != nil {
		return err
	}
	p := params{}
	if len(*buf) > 0 && !p.addJSON(*buf) {
		return c.malformed(*buf)
	}
	if err := checkMembers(*buf, "request_id"); err != nil {
		return err
	}
	consumer, err := c.findReceiver()
	if err != nil {
		return err
	}
	id, _ := p["request_id"].(string)
	if !isRequestID(id) {
		return errRequestID
	}
	return c.ok(map[string]any{"data": map[string]any{"ended": c.srv.endings.end(receiveID{consumer.ID(), id})}})
}
