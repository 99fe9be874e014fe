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

// Answers of a released Sequin, as recorded.
var (
	errSinkBatchSize  = badRequest("Invalid `max_batch_size`. `max_batch_size` must be an integer between 1 and 1000.")
	errSinkWaitFormat = badRequest("Invalid `wait_for`. When using duration strings, format must be like '60s', '5m', or '1000ms'.")
	errSinkNotUp      = &failure{status: http.StatusInternalServerError, summary: "Call to SlotMessageStore failed with :noproc"}
	errSinkStatus     = refusedField("status", "is invalid")
)

func (c *call) receiveSink(k *Sink, p params) error {
	n, err := sinkBatchSize(p)
	if err != nil {
		return err
	}
	wait, err := sinkWait(p)
	if err != nil {
		return err
	}
	got, over, err := c.pollSink(k, n, wait)
	if err != nil {
		return err
	}
	if number, _ := p["wait_for"].(json.Number); over && isFloat(string(number)) {
		return errInternal // the real server fails after the wait
	}
	return c.encode(func(e *encoder) { e.buf = appendSinkDeliveries(e.buf, got) })
}

// pollSink receives, and waits for a change while nothing of the sink is outstanding. over reports that the wait ended without
// one.
func (c *call) pollSink(k *Sink, n int, wait time.Duration) (got []sink.Delivery, over bool, err error) {
	timer := time.NewTimer(wait - time.Since(c.arrived))
	defer timer.Stop()
	for {
		now := time.Now()
		if k.starting(now) {
			return nil, false, errSinkNotUp
		}
		got, changed := k.queue.Receive(now, n)
		if len(got) > 0 || changed == nil || wait == 0 {
			return got, false, nil
		}
		if c.waitSink(changed, timer.C) {
			return nil, true, nil
		}
		if err := c.mayStillReceive(); err != nil {
			return nil, false, err
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

// sinkBatchSize reads batch_size, or max_batch_size without it. Of 2.5 messages the real server delivers 3. A value that is
// neither a number nor a text makes it fail.
func sinkBatchSize(p params) (int, error) {
	v, given := p["batch_size"]
	if !given {
		if v, given = p["max_batch_size"]; !given {
			return 1, nil
		}
	}
	switch v := v.(type) {
	case json.Number:
		if f, err := v.Float64(); err == nil && f > 0 && f <= maxBatchSize {
			return int(math.Ceil(f)), nil
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

func (c *call) settleSink(k *Sink, p params, ack bool) error {
	list, _ := p["ack_ids"].([]any)
	if len(list) == 0 {
		return errAckIDs
	}
	var ids []sink.ID
	for _, v := range list {
		text, _ := v.(string)
		id, known, ok := sinkAckID(text)
		if !ok {
			return errAckIDs
		}
		if known {
			ids = append(ids, id)
		}
	}
	if ack {
		k.queue.Ack(time.Now(), ids)
	} else {
		k.queue.Nack(ids)
	}
	return c.ok(map[string]bool{"success": true})
}

func (c *call) sinkInfo(k *Sink, changed bool) error {
	return c.encode(func(e *encoder) { e.buf = append(e.buf, k.info(changed)...) })
}

// updateSink changes the status, which is all of a sink that the emulation can change.
func (c *call) updateSink(k *Sink, p params) error {
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
