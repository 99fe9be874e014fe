package server

import "sync"

// receiveID names a receive that waits: the id of its consumer, and its X-Request-Id.
type receiveID struct{ consumer, request string }

// endings are the receives that wait, so that another request can end one of them. The zero value is ready for use.
type endings struct {
	mu  sync.Mutex
	all map[receiveID]*ending
}

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
	return of.ask
}

func (e *endings) leave(id receiveID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.all[id]
	if of.receives--; of.receives == 0 {
		delete(e.all, id)
	}
}

// end ends the receives of an id, and reports whether there is one.
func (e *endings) end(id receiveID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.all[id]
	if of == nil {
		return false
	}
	if !of.asked {
		of.asked = true
		close(of.ask)
	}
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
