package server

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// A long poll may wait between half a second and 5 minutes, as Sequin documents.
const (
	minWait = 500 * time.Millisecond
	maxWait = 5 * time.Minute
)

// waitFor returns how long a receive waits for messages, or zero if it does not wait.
func (c *call) waitFor(p params) (time.Duration, error) {
	v, given := p["wait_for"]
	if !given {
		return 0, nil
	}
	if !c.srv.dialect.longPoll {
		return 0, errNoWait
	}
	wait, ok := parseWait(v)
	if !ok || wait < minWait || wait > maxWait {
		return 0, errWaitFor
	}
	return wait, nil
}

// parseWait reads milliseconds, as a number or as digits, or digits with the unit ms, s or m.
func parseWait(v any) (time.Duration, bool) {
	unit := time.Millisecond
	if text, ok := v.(string); ok {
		if digits, ok := strings.CutSuffix(text, "ms"); ok {
			v = digits
		} else if digits, ok := strings.CutSuffix(text, "s"); ok {
			v, unit = digits, time.Second
		} else if digits, ok := strings.CutSuffix(text, "m"); ok {
			v, unit = digits, time.Minute
		}
	}
	n, ok := integer(v)
	if n < 0 || n > maxWait.Milliseconds() {
		return 0, false
	}
	return time.Duration(n) * unit, ok
}

// longPoll waits in the consumer's queue until it has received a message, the wait is over, the client is gone, another
// request ends it, or the server stops or is closed. The wait starts when the request arrives. It returns at once when a message is available and
// no other receive waits.
func (c *call) longPoll(consumer store.Consumer, n int, wait time.Duration, dst []store.Delivery) ([]store.Delivery, error) {
	if !c.srv.waiters.enter(consumer.ID(), c.srv.limits.Waiting) {
		return dst, tooManyAtTheServer(c.srv.limits.Waiting)
	}
	defer c.srv.waiters.leave(consumer.ID())
	place, err := consumer.Queue(c.ctx())
	if err != nil {
		return dst, c.tooManyWaiting(err, consumer)
	}
	defer place.Leave()
	over := time.NewTimer(wait - time.Since(c.arrived))
	defer over.Stop()
	for {
		if !c.awaitReady(place, over.C) {
			return dst, nil
		}
		if err := c.mayStillReceive(); err != nil {
			return dst, err
		}
		if err := c.checkRoom(); err != nil {
			return dst, err
		}
		dst, err = place.Receive(c.storing(), n, dst)
		if errors.Is(err, store.ErrClosed) && isClosed(c.srv.closed) {
			return dst, nil // the place and the channel were ready at once
		}
		if err != nil || len(dst) > 0 {
			return dst, err
		}
	}
}

// awaitReady waits until it is the turn of the place. It returns false when the wait has to end without messages.
func (c *call) awaitReady(place store.Place, over <-chan time.Time) bool {
	defer c.waited(time.Now())
	select {
	case <-place.Ready():
		return true
	case <-over:
	case <-c.shutdown:
	case <-c.srv.closed:
	case <-c.srv.drain.start:
	case <-c.ending:
	case <-c.r.Context().Done():
	}
	return false
}

func (c *call) tooManyWaiting(err error, consumer store.Consumer) error {
	if !errors.Is(err, store.ErrTooManyWaiting) {
		return err
	}
	info, err := consumer.Info(c.ctx())
	if err != nil {
		return err
	}
	return &failure{
		status:  http.StatusTooManyRequests,
		summary: "Too many receives are waiting: the consumer's `max_waiting` is " + strconv.Itoa(info.MaxWaiting),
	}
}
