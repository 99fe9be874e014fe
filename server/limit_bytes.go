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

// hold makes the request take as much of the budget as n bytes of its body need.
func (c *call) hold(n int) error {
	more := int64(n) - c.held
	if more <= 0 {
		return nil
	}
	if !c.srv.inFlight.take(more) {
		return errTooBusy
	}
	c.held += more
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
}

// checkRoom returns the refusal of a receive while there is no room for its answer.
func (c *call) checkRoom() error {
	if c.srv.inFlight.used.Load() >= c.srv.inFlight.limit {
		return errTooBusy
	}
	return nil
}
