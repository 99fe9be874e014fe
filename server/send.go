package server

import (
	"errors"
	"runtime"
	"strings"

	"github.com/sequin-go/sequin/server/internal/store"
)

// send stores a batch. The store decides what happens to a key that occurs twice in it: see internal/store/send_plan.go.
func (c *call) send() error {
	buf, err := c.jsonBody()
	defer putBuffer(buf)
	if err != nil {
		return err
	}
	in := sendRequests.Get().(*sendRequest)
	defer in.release()
	d := &c.srv.dialect
	in.firstWins, in.readsHeaders = d.plug, c.srv.headers
	if !in.parse(*buf) {
		return c.malformed(*buf)
	}
	if d.plug && (in.invalid != nil || c.plug.params != nil) {
		if err := c.plugMessages(in, *buf); err != nil {
			return err
		}
	}
	s, err := c.findStream()
	if err != nil {
		return err
	}
	if in.invalid != nil {
		return in.invalid
	}
	if err := c.checkMessages(in.messages); err != nil {
		return err
	}
	once, err := c.once(*buf)
	if err != nil {
		return err
	}
	published := 0
	if len(in.messages) > 0 {
		published, err = s.Send(c.ctx(), once, in.messages)
	} else {
		// A send of no messages tells a client that the server works. It changes nothing and is not remembered.
		err = c.srv.store.Probe(c.ctx())
	}
	if errors.Is(err, store.ErrDiskFull) {
		return errDiskFull
	}
	if err != nil {
		return err
	}
	// The receives that the messages have woken answer first: a consumer waits for them, and a producer seldom for this answer.
	runtime.Gosched()
	c.srv.traffic.sent(s, in.messages)
	return c.ok(map[string]any{"data": map[string]int{"published": published}})
}

// plugMessages reads the messages from the params, for the 2024 server's dialect.
func (c *call) plugMessages(in *sendRequest, body []byte) error {
	p, err := c.plugParams(body)
	if err != nil {
		return err
	}
	list, ok := p["messages"].([]any)
	if in.messages, in.invalid = in.messages[:0], nil; !ok {
		in.invalid = errNoMessages
	}
	for _, v := range list {
		message, _ := v.(map[string]any)
		key, hasKey := message["key"].(string)
		data, hasData := message["data"].(string)
		if !hasKey || !hasData {
			in.invalid = errFormat
		}
		in.messages = append(in.messages, store.Message{Key: key, Data: data})
	}
	return nil
}

// checkMessages returns the error that makes the whole request fail. An error of the 2024 server's database comes last,
// because that server checks all messages first.
func (c *call) checkMessages(messages []store.Message) error {
	d := &c.srv.dialect
	if len(messages) > d.maxMessages {
		return badRequest("Too many messages: a request can have at most 1,000, this one has %d", len(messages))
	}
	var database error
	tokens := 0
	for i := range messages {
		m := &messages[i]
		if d.lastFirst {
			m = &messages[len(messages)-1-i]
		}
		if fault := store.CheckKey(m.Key); fault == store.KeyUnprintable && d.unprintableKeys {
			database = errInternal
		} else if fault != store.KeyFine {
			return badRequest("Invalid key format: Key %s", fault)
		}
		if strings.IndexByte(m.Data, 0) >= 0 {
			if !d.removeNUL {
				return badRequest("Invalid message data: data must not contain null characters (key %q)", m.Key)
			}
			m.Data = strings.ReplaceAll(m.Data, "\x00", "")
		}
		if d.maxBindParameters != noLimit {
			tokens = max(tokens, 1+strings.Count(m.Key, "."))
		}
	}
	// The 2024 server inserts all messages in one statement: 5 values for each, and one for each token of the longest key.
	if len(messages)*(5+tokens)+1 > d.maxBindParameters {
		database = errInternal
	}
	return database
}
