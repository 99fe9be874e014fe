package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// maxBatchSize is the largest batch that a receive can ask for; without batch_size it gets one message.
const maxBatchSize = 1_000

// Bounds of wait_for.
const (
	minWait = 500 * time.Millisecond
	maxWait = 5 * time.Minute
)

var (
	errBatchSize = badRequest("Invalid `batch_size`. `batch_size` must be an integer between 1 and 1000.")
	errNoWait    = badRequest("This endpoint doesn't support the `wait_for` param at the moment. Please ask the Sequin team for help.")
	errWaitFor   = badRequest("Invalid `wait_for`. Must be between 500 and 300,000 milliseconds, or use duration format like '60s', '5m', '1000ms'.")
)

var deliveries = sync.Pool{New: func() any { return new([]store.Delivery) }}

func (c *call) receive() error {
	p, err := c.params()
	if err != nil {
		return err
	}
	consumer, err := c.workingConsumer()
	if err != nil {
		return err
	}
	n, err := c.batchSize(p)
	if err != nil {
		return err
	}
	wait, err := c.waitFor(p)
	if err != nil {
		return err
	}
	got := deliveries.Get().(*[]store.Delivery)
	defer func() {
		clear(*got)
		*got = (*got)[:0]
		deliveries.Put(got)
	}()
	if wait == 0 {
		*got, err = consumer.Receive(n, *got)
	} else {
		*got, err = c.longPoll(consumer, n, wait, *got)
	}
	if err != nil {
		return err
	}
	c.handOut(consumer, *got)
	return nil
}

func (c *call) batchSize(p params) (int, error) {
	v, given := p["batch_size"]
	if !given {
		return 1, nil
	}
	n, ok := integer(v)
	if number, isNumber := v.(json.Number); !ok && isNumber && c.compat == Aug2024 && strings.ContainsAny(number.String(), ".eE") {
		return 0, errCrash // its query wants an integer
	}
	if !ok || n < 1 || n > maxBatchSize {
		return 0, errBatchSize
	}
	return int(n), nil
}

func (c *call) waitFor(p params) (time.Duration, error) {
	v, given := p["wait_for"]
	if !given {
		return 0, nil
	}
	if c.compat == Aug2024 {
		return 0, errNoWait
	}
	wait, ok := parseWait(v)
	if !ok || wait < minWait || wait > maxWait {
		return 0, errWaitFor
	}
	return wait, nil
}

// parseWait reads milliseconds, as a number or as digits, or a number with one of three units.
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

// longPoll waits for its turn in the consumer's line. With nobody ahead and something there, it is its turn at once.
func (c *call) longPoll(consumer store.Consumer, n int, wait time.Duration, dst []store.Delivery) ([]store.Delivery, error) {
	place, err := consumer.Queue()
	if err != nil {
		return dst, tooManyWaiting(err, consumer)
	}
	defer place.Leave()
	over := time.NewTimer(wait - time.Since(c.arrived))
	defer over.Stop()
	for {
		select {
		case <-place.Ready():
		case <-over.C:
			return dst, nil
		case <-c.r.Context().Done():
			return dst, nil
		}
		dst, err = place.Receive(n, dst)
		if errors.Is(err, store.ErrClosed) {
			return dst, nil // the server was closed: nothing came
		}
		if err != nil || len(dst) > 0 {
			return dst, err
		}
	}
}

func tooManyWaiting(err error, consumer store.Consumer) error {
	if !errors.Is(err, store.ErrTooManyWaiting) {
		return err
	}
	return &failure{
		status:  http.StatusTooManyRequests,
		summary: "Too many receives are waiting: the consumer's `max_waiting` is " + strconv.Itoa(consumer.Info().MaxWaiting),
	}
}

// handOut writes the answer. When the client is gone before that, or the connection breaks meanwhile, the messages are
// given back; one that breaks after the last byte was handed to the network leaves them to their leases.
func (c *call) handOut(consumer store.Consumer, got []store.Delivery) {
	extras := c.compat != Aug2024
	if extras {
		// To the moment that the leases count from, and not to now: whoever adds ack_wait to it must not come out late.
		handedOut := time.Now()
		if len(got) > 0 {
			handedOut = got[0].At
		}
		c.w.Header().Set("Sequin-Waited-Ms", strconv.FormatInt(handedOut.Sub(c.arrived).Milliseconds(), 10))
	}
	buf := getBuffer()
	defer putBuffer(buf)
	e := encoder{buf: (*buf)[:0], count: extras}
	e.deliveries(consumer.Info().StreamID, got)
	*buf = e.buf

	err := c.r.Context().Err()
	if err == nil {
		c.w.Header().Set("Content-Type", jsonType)
		err = c.write(http.StatusOK, *buf)
	}
	if err == nil {
		// Without this the last bytes would be sent after the handler, and nobody would learn that they could not.
		err = http.NewResponseController(c.w).Flush()
	}
	if err == nil || errors.Is(err, http.ErrNotSupported) || !extras || len(got) == 0 {
		return
	}
	ids := make([]store.ID, len(got))
	for i, d := range got {
		ids[i] = d.ID
	}
	_ = consumer.Settle(ids, store.Return) // fails when the consumer is gone, and then there is nothing to give back
}
