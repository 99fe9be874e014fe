package server

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sequin-go/sequin/server/internal/sink"
)

const howToAuthorize = "API tokens are generated in the Sequin console (console.sequin.io) and should be included in the Authorization header of your request. For example:\n\nAuthorization: Bearer <your-api-token>\n\n"

// Answers of a released Sequin, as recorded.
var (
	errSinkNoToken    = &failure{status: http.StatusUnauthorized, summary: "Please provide a valid API token in the Authorization header.\n\n" + howToAuthorize}
	errSinkNoBearer   = &failure{status: http.StatusUnauthorized, summary: "Please provide a valid API token in the Authorization header. Ensure your Authorization value is prefixed with \"Bearer\".\n\n" + howToAuthorize}
	errSinkToken      = &failure{status: http.StatusUnauthorized, summary: "The API token you provided is invalid or has expired. Your token may have been revoked or deleted in the Sequin console.\n"}
	errSinkUntyped    = badRequest("Content-Type: application/json is required")
	errSinkBatchSize  = badRequest("Invalid `max_batch_size`. `max_batch_size` must be an integer between 1 and 1000.")
	errSinkWaitFormat = badRequest("Invalid `wait_for`. When using duration strings, format must be like '60s', '5m', or '1000ms'.")
	errSinkNotUp      = &failure{status: http.StatusInternalServerError, summary: "Call to SlotMessageStore failed with :noproc"}
	errSinkStatus     = refusedField("status", "is invalid")
)

// sinkPrefixes are the paths of the API of sinks.
var sinkPrefixes = []string{"api/sequin_streams/", "api/http_pull_consumers/", "api/sinks/"}

// isSinkCall reports whether a path is of the API of sinks, and the server has some.
func (c *call) isSinkCall() bool {
	if !c.srv.sinksOnly && len(c.srv.sinks.list()) == 0 {
		return false
	}
	path := strings.TrimLeft(c.r.URL.Path, "/")
	for _, prefix := range sinkPrefixes {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// unauthorized returns the refusal of a request without the token.
func (c *call) unauthorized() error {
	header := c.r.Header.Get("Authorization")
	switch {
	case !c.isSinkCall():
		return errUnauthorized
	case header == "":
		return errSinkNoToken
	case !strings.HasPrefix(header, "Bearer"):
		return errSinkNoBearer
	}
	return errSinkToken
}

// routeSink runs the handler of a request of the API of sinks.
func (c *call) routeSink(op operation) error {
	header := c.r.Header.Get("Accept")
	if accepts(header, header != "", jsonFormat) == noFormat {
		return errUnacceptable
	}
	found := c.srv.sinks.find(c.stream)
	if found == nil {
		return errNoConsumer
	}
	switch op {
	case opReceiveSink:
		return c.receiveSink(found)
	case opAckSink, opNackSink:
		return c.settleSink(found, op == opAckSink)
	case opGetSink:
		return c.sinkInfo(found, false)
	}
	return c.updateSink(found)
}

// sinkParams returns the values of the query and of a JSON body. A body must be declared as JSON.
func (c *call) sinkParams() (params, error) {
	p := c.query()
	buf, err := c.readBody(c.srv.limits.RequestBytes)
	defer putBuffer(buf)
	switch {
	case err != nil || len(*buf) == 0:
		return p, err
	case c.mediaType() != jsonMedia:
		return nil, errSinkUntyped
	case !p.addJSON(*buf):
		return nil, errMalformed
	}
	return p, nil
}

func (c *call) receiveSink(k *Sink) error {
	p, err := c.sinkParams()
	if err != nil {
		return err
	}
	n, err := sinkBatchSize(p)
	if err != nil {
		return err
	}
	wait, err := sinkWait(p)
	if err != nil {
		return err
	}
	number, _ := p["wait_for"].(json.Number)
	got, err := c.pollSink(k, n, wait)
	if err != nil {
		return err
	}
	if len(got) == 0 && isFloat(string(number)) {
		return errInternal // the real server fails after the wait
	}
	return c.encode(func(e *encoder) { e.buf = appendSinkDeliveries(e.buf, got) })
}

// pollSink receives, and waits for a change while nothing of the sink is outstanding.
func (c *call) pollSink(k *Sink, n int, wait time.Duration) ([]sink.Delivery, error) {
	over := time.NewTimer(wait - time.Since(c.arrived))
	defer over.Stop()
	for {
		now := time.Now()
		if k.starting(now) {
			return nil, errSinkNotUp
		}
		got, changed := k.queue.Receive(now, n)
		if len(got) > 0 || changed == nil || wait == 0 {
			return got, nil
		}
		if c.waitSink(changed, over.C) {
			return nil, nil
		}
	}
}

// waitSink waits for a change, and reports whether something else ended the wait.
func (c *call) waitSink(changed <-chan struct{}, over <-chan time.Time) (ended bool) {
	select {
	case <-changed:
		return false
	case <-over:
	case <-c.shutdown:
	case <-c.srv.closed:
	case <-c.srv.drain.start:
	case <-c.ctx().Done():
	}
	return true
}

// sinkBatchSize reads batch_size, or max_batch_size without it. A value that is neither a number nor a text makes the real
// server fail.
func sinkBatchSize(p params) (int, error) {
	v, given := p["batch_size"]
	if !given {
		if v, given = p["max_batch_size"]; !given {
			return 1, nil
		}
	}
	switch v := v.(type) {
	case json.Number:
		if f, err := v.Float64(); err == nil && f >= 1 && f <= maxBatchSize {
			return int(f), nil
		}
	case string:
		if n, err := strconv.Atoi(v); err == nil && n >= 1 && n <= maxBatchSize {
			return n, nil
		}
	default:
		return 0, errInternal
	}
	return 0, errSinkBatchSize
}

// sinkWait reads wait_for: milliseconds, as a number or as digits, or digits with the unit ms, s or m. A value of another type
// counts as none.
func sinkWait(p params) (time.Duration, error) {
	var wait time.Duration
	switch v := p["wait_for"].(type) {
	case json.Number:
		ms, _ := v.Float64() // too large a number is infinite
		wait = time.Duration(min(ms, 2*float64(maxWait.Milliseconds())) * float64(time.Millisecond))
	case string:
		digits, unit := v, time.Millisecond
		for suffix, of := range sinkUnits {
			if before, ok := strings.CutSuffix(v, suffix); ok && isDigits(before) {
				digits, unit = before, of
			}
		}
		if !isDigits(digits) {
			return 0, errSinkWaitFormat
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > math.MaxInt64/int64(unit) {
			n = maxWait.Milliseconds() + 1
		}
		wait = time.Duration(n) * unit
	default:
		return 0, nil
	}
	if wait < minWait || wait > maxWait {
		return 0, errWaitFor
	}
	return wait, nil
}

var sinkUnits = map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute}

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

func (c *call) settleSink(k *Sink, ack bool) error {
	p, err := c.sinkParams()
	if err != nil {
		return err
	}
	list, _ := p["ack_ids"].([]any)
	ids := make([]sink.ID, len(list))
	for i, v := range list {
		text, _ := v.(string)
		id, ok := sinkAckID(text)
		if !ok {
			return errAckIDs
		}
		ids[i] = id
	}
	switch {
	case len(ids) == 0:
		return errAckIDs
	case ack:
		k.queue.Ack(time.Now(), ids)
	default:
		k.queue.Nack(ids)
	}
	return c.ok(map[string]bool{"success": true})
}

func (c *call) sinkInfo(k *Sink, changed bool) error {
	return c.encode(func(e *encoder) { e.buf = append(e.buf, k.info(changed)...) })
}

// updateSink changes the status, which is all of a sink that the emulation can change.
func (c *call) updateSink(k *Sink) error {
	p, err := c.sinkParams()
	if err != nil {
		return err
	}
	for name := range p {
		if name != "status" {
			return refusedField(name, fmt.Sprintf("cannot be changed: the emulation of sinks changes %q only", "status"))
		}
	}
	switch p["status"] {
	case "disabled":
		k.setDisabled(true)
	case "active":
		k.setDisabled(false)
	case nil:
	default:
		return errSinkStatus
	}
	return c.sinkInfo(k, true)
}
