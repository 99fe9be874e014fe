package server

import (
	"net/http"
	"time"
)

// RequestInfo describes a request that has been answered.
type RequestInfo struct {
	// Route is the method and the path, with a "*" for each name, key and id: "POST api/streams/*/messages". The method of a
	// HEAD is GET. It is "other" for a request of no route or that was refused before, so that there are few values.
	Route    string
	Status   int
	Duration time.Duration // from the header of the request to the last byte of the answer, waiting included
	// Waited is the part of Duration in which the server waited: for messages, for the body, and for the client to take the
	// answer. The rest is the server's own work.
	Waited   time.Duration
	BytesIn  int64 // of the body
	BytesOut int64 // of the body of the answer
}

// Load is what a Server has to do at a moment.
type Load struct {
	Connections   int   // of the http.Servers of HTTPServer
	Requests      int   // running, those that wait included
	Waiting       int   // receives that wait for messages
	BytesInFlight int64 // see Limits
}

// Load returns what the server has to do now.
func (s *Server) Load() Load {
	return Load{
		Connections: int(s.connections.open.Load()), Requests: int(s.drain.running.Load()),
		Waiting: s.waiters.total(), BytesInFlight: s.inFlight.used.Load() + s.forSettles.used.Load(),
	}
}

// otherRoute is the Route of a request of no route.
const otherRoute = "other"

// waited counts the time since then as waiting.
func (c *call) waited(since time.Time) { c.answered.Waited += time.Since(since) }

// observe reports the request after its answer.
func (c *call) observe() {
	if c.srv.onRequest == nil {
		return
	}
	if c.answered.Route == "" {
		c.answered.Route = otherRoute
	}
	if c.answered.Status == 0 {
		c.answered.Status = http.StatusInternalServerError // the handler was aborted before an answer
	}
	c.answered.BytesIn = c.held
	c.answered.Duration = time.Since(c.arrived)
	c.srv.onRequest(c.answered)
}
