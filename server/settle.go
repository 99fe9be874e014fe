package server

import (
	"strconv"
	"time"

	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/server/internal/store"
)

func (c *call) ack() error { return c.settle(store.Ack) }

func (c *call) nack() error { return c.settle(store.Nack) }

func (c *call) settle(how store.Settlement) error {
	d := &c.srv.dialect
	in := settleRequest{plug: d.plug, invalid: errAckIDs}
	consumer, err := c.readSettle(&in)
	if err != nil {
		return err
	}
	if how == store.Nack && in.undelivered && c.srv.attempts {
		how = store.Return
	}
	if how == store.Ack || !c.srv.nackDelay {
		in.delay, in.badDelay = 0, false
	}
	switch {
	case in.badDelay:
		return errDelay
	case in.delay > 0:
		err = consumer.Delay(c.ctx(), in.ids, how, in.delay)
	default:
		err = consumer.Settle(c.ctx(), in.ids, how)
	}
	if err != nil {
		return err
	}
	c.srv.traffic.settled(consumer, how, len(in.ids))
	return c.ok(map[string]bool{"success": true})
}

// extend extends leases. Only the documented mode has this route.
func (c *call) extend() error {
	if !c.srv.extends {
		c.answered.Route = otherRoute
		return c.noRoute()
	}
	in := settleRequest{known: []string{"ack_ids", "ack_wait_ms"}, invalid: errAckIDs, badWait: true}
	consumer, err := c.readSettle(&in)
	if err != nil {
		return err
	}
	if in.badWait || in.wait <= 0 {
		return errExtension
	}
	ids, err := consumer.Extend(c.ctx(), in.ids, in.wait)
	if err != nil {
		return err
	}
	extended := make([]string, len(ids))
	for i, id := range ids {
		extended[i] = id.String()
	}
	return c.ok(map[string]any{"data": map[string]any{"extended": extended}})
}

// readSettle reads the body of an ack, a nack or an extension, and finds the consumer.
func (c *call) readSettle(in *settleRequest) (store.Consumer, error) {
	buf, err := c.jsonBody()
	defer putBuffer(buf)
	if err != nil {
		return nil, err
	}
	if !in.parse(*buf) {
		return nil, c.malformed(*buf)
	}
	if in.known != nil {
		if err := checkMembers(*buf, in.known...); err != nil {
			return nil, err
		}
	}
	if in.plug && (in.invalid != nil || c.plug.params != nil) {
		if err := c.plugAckIDs(in, *buf); err != nil {
			return nil, err
		}
	}
	consumer, err := c.findReceiver()
	if err != nil {
		return nil, err
	}
	return consumer, in.invalid
}

// settleRequest is the parsed body of an ack, a nack or an extension.
type settleRequest struct {
	plug bool // ids are read as the 2024 server does, and of several members of one name the first counts, not the last

	known []string // the members that an extension may have; nil for an ack or a nack, which may have any

	ids         []store.ID
	undelivered bool
	delay       time.Duration
	badDelay    bool
	wait        time.Duration // of an extension
	badWait     bool
	invalid     error // what is wrong with the ids of a body that is JSON
}

// maxDelay is the longest delay of a nack. It is long enough for the next working day after any holiday, and short enough
// that a wrong unit is noticed.
const maxDelay = 7 * 24 * time.Hour

// parse parses a body, and returns false if it is not JSON.
func (in *settleRequest) parse(body []byte) bool {
	if len(body) == 0 {
		return true
	}
	if !isText(body) {
		return false
	}
	var s jscan.Scanner
	s.Reset(body)
	if s.Kind() != jscan.Object {
		s.Skip()
		return s.Done() == nil
	}
	s.Object()
	seen := false
	for {
		name, ok := s.Key()
		if !ok {
			break
		}
		switch {
		case string(name) == "ack_ids" && !(seen && in.plug):
			seen = true
			in.parseIDs(&s, len(body))
		case string(name) == "undelivered" && s.Kind() == jscan.Bool:
			in.undelivered = s.Bool()
		case string(name) == "delay_ms":
			in.delay, in.badDelay = milliseconds(&s, maxDelay.Milliseconds())
		case string(name) == "ack_wait_ms":
			in.wait, in.badWait = milliseconds(&s, maxInteger)
		default:
			s.Skip()
		}
	}
	return s.Done() == nil
}

// milliseconds reads a number of milliseconds, from 0 to most.
func milliseconds(s *jscan.Scanner, most int64) (d time.Duration, invalid bool) {
	ms, err := strconv.ParseInt(string(s.Raw()), 10, 64)
	return time.Duration(ms) * time.Millisecond, err != nil || ms < 0 || ms > most
}

// idText is the least length of an id in a body: 36 characters, two quotes and a comma.
const idText = 39

func (in *settleRequest) parseIDs(s *jscan.Scanner, size int) {
	in.ids, in.invalid = make([]store.ID, 0, size/idText+1), nil
	if s.Kind() != jscan.Array {
		in.invalid = errAckIDs
		s.Skip()
		return
	}
	s.Array()
	for s.Elem() {
		if s.Kind() != jscan.String {
			in.invalid = errAckIDs
			s.Skip()
			continue
		}
		in.add(s.String())
	}
	in.end()
}

// add adds an id. errAckIDs takes precedence over other errors.
func (in *settleRequest) add(text []byte) {
	var id store.ID
	var err error
	if in.plug {
		id, err = plugAckID(text)
	} else {
		id, err = readAckID(text)
	}
	if err != nil && in.invalid != errAckIDs {
		in.invalid = err
	}
	in.ids = append(in.ids, id)
}

// end is called after the last id.
func (in *settleRequest) end() {
	if len(in.ids) == 0 {
		in.invalid = errAckIDs
	}
}

// plugAckIDs reads the ids from the params, for the 2024 server's dialect.
func (c *call) plugAckIDs(in *settleRequest, body []byte) error {
	if _, err := c.plugParams(body); err != nil {
		return err
	}
	in.ids, in.invalid = nil, nil
	list, _ := c.plug.params["ack_ids"].([]any)
	for _, v := range list {
		text, _ := v.(string)
		in.add([]byte(text))
	}
	in.end()
	return nil
}

// dashed adds the dashes to a UUID of 32 characters.
func dashed(text []byte) []byte {
	out := make([]byte, 0, 36)
	for i, b := range text {
		if i == 8 || i == 12 || i == 16 || i == 20 {
			out = append(out, '-')
		}
		out = append(out, b)
	}
	return out
}
