package server

import (
	"net/http"
	"sync/atomic"
)

var errTooBusy = &failure{
	status: http.StatusTooManyRequests, retryAfter: retryAfter,
	summary: "Too many bytes in flight: this server has no memory left for the request or its answer. Nothing was done",
}

// budget is a number of bytes that requests share. The zero value has none.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take takes n bytes, or returns false when there are not so many left.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// settlesShare is the part of the budget, one in so many, that acks and nacks have beside it. A consumer whose answers fill the
// budget can then still settle them. An ack of 1,000 ids takes 40 kB, of 32 MiB by default.
const settlesShare = 8

// hold makes the request take as much of the budget as n bytes of its body need.
func (c *call) hold(n int) error {
	more := int64(n) - c.held - c.heldForSettle
	switch {
	case more <= 0:
	case c.srv.inFlight.take(more):
		c.held += more
	case c.find().effect == settles && c.srv.forSettles.take(more):
		c.heldForSettle += more
	default:
		return errTooBusy
	}
	return nil
}

// holdAnswer makes the request take as much of the budget as n bytes of its answer need. It never refuses: the messages of the
// answer may be leased already.
func (c *call) holdAnswer(n int) {
	if more := int64(n) - c.answer; more > 0 {
		c.srv.inFlight.used.Add(more)
		c.answer += more
	}
}

// release returns what the request has taken of the budget.
func (c *call) release() {
	if taken := c.held + c.answer; taken != 0 {
		c.srv.inFlight.used.Add(-taken)
	}
	if c.heldForSettle != 0 {
		c.srv.forSettles.used.Add(-c.heldForSettle)
	}
}

// checkRoom returns the refusal of a receive while there is no room for its answer.
func (c *call) checkRoom() error {
	if c.srv.inFlight.used.Load() >= c.srv.inFlight.limit {
		return errTooBusy
	}
	return nil
}
