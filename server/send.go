package server

import (
	"strings"
	"sync"

	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/server/internal/store"
)

// maxMessages is how many messages a request may carry by the documentation.
const maxMessages = 1_000

// maxBindParameters is what limits a request on the 2024 server: its database takes so many values in a statement.
const maxBindParameters = 65_535

var (
	errNoMessages = badRequest("Missing or invalid messages")
	errFormat     = badRequest("Invalid message format")
)

// sending is a send's body taken apart. It is reused: what it held goes to the store, which does not keep the slice.
type sending struct {
	scanner  jscan.Scanner
	text     []byte // keys and data, one after the other
	spans    []span
	messages []store.Message
	problem  error // what is wrong with the messages, in well-formed JSON
}

// span is where a message lies in the text, counted from the end of the one before.
type span struct{ key, data int }

var sendings = sync.Pool{New: func() any { return new(sending) }}

func (c *call) send() error {
	buf, err := c.sendBody()
	defer putBuffer(buf)
	if err != nil {
		return err
	}
	in := sendings.Get().(*sending)
	defer in.release()
	if !in.parse(*buf) {
		return errMalformed
	}
	s, err := c.store.Stream(c.stream)
	if err != nil {
		return err
	}
	if in.problem != nil {
		return in.problem
	}
	if err := c.checkMessages(in.messages); err != nil {
		return err
	}
	published, err := c.once(s, *buf, func() (int, error) { return s.Send(in.messages) })
	if err != nil {
		return err
	}
	return c.ok(map[string]any{"data": map[string]int{"published": published}})
}

// sendBody returns an empty body for one that is not JSON: the fields of a form are no messages.
func (c *call) sendBody() (*[]byte, error) {
	switch c.mediaType() {
	case jsonMedia:
		return c.readBody()
	case formMedia:
		buf, err := c.readBody()
		*buf = (*buf)[:0]
		return buf, err
	}
	return getBuffer(), nil
}

// parse reads a body and tells whether it is JSON.
func (in *sending) parse(body []byte) bool {
	in.problem = errNoMessages
	if len(body) == 0 {
		return true
	}
	if !isText(body) {
		return false
	}
	s := &in.scanner
	s.Reset(body)
	if s.Kind() != jscan.Object {
		s.Skip()
		return s.Done() == nil
	}
	s.Object()
	for {
		name, ok := s.Key()
		if !ok {
			break
		}
		if string(name) == "messages" {
			in.parseMessages()
		} else {
			s.Skip()
		}
	}
	if s.Done() != nil {
		return false
	}
	in.cut()
	return true
}

func (in *sending) parseMessages() {
	s := &in.scanner
	// Of a member that occurs twice the last one counts.
	in.text, in.spans, in.problem = in.text[:0], in.spans[:0], nil
	if s.Kind() != jscan.Array {
		in.problem = errNoMessages
		s.Skip()
		return
	}
	s.Array()
	for s.Elem() {
		if !in.parseMessage() {
			in.problem = errFormat
		}
	}
}

// parseMessage adds a message to the text, whole or in part; false when it is not one.
func (in *sending) parseMessage() bool {
	s := &in.scanner
	if s.Kind() != jscan.Object {
		s.Skip()
		return false
	}
	s.Object()
	var key, data field
	begin := len(in.text)
	for {
		name, ok := s.Key()
		if !ok {
			break
		}
		switch string(name) {
		case "key":
			in.parseField(&key)
		case "data":
			in.parseField(&data)
		default:
			s.Skip()
		}
	}
	if !key.ok || !data.ok {
		return false
	}
	if key.begin != begin || data.begin != key.end || data.end != len(in.text) {
		// Data came before the key, or a member came twice: lay them out anew.
		text := string(in.text[key.begin:key.end]) + string(in.text[data.begin:data.end])
		in.text = append(in.text[:begin], text...)
	}
	in.spans = append(in.spans, span{key.end - key.begin, data.end - data.begin})
	return true
}

// field is where a string lies in the text.
type field struct {
	begin, end int
	ok         bool
}

func (in *sending) parseField(f *field) {
	s := &in.scanner
	if f.ok = s.Kind() == jscan.String; !f.ok {
		s.Skip()
		return
	}
	f.begin = len(in.text)
	in.text = append(in.text, s.String()...)
	f.end = len(in.text)
}

// cut makes messages of the text: one copy for all of them.
func (in *sending) cut() {
	if in.problem != nil {
		return
	}
	text := string(in.text)
	in.messages = in.messages[:0]
	for _, s := range in.spans {
		end := s.key + s.data
		in.messages = append(in.messages, store.Message{Key: text[:s.key], Data: text[s.key:end]})
		text = text[end:]
	}
}

func (in *sending) release() {
	clear(in.messages)
	in.messages, in.spans = in.messages[:0], in.spans[:0]
	in.scanner.Reset(nil)
	if cap(in.text) > maxPooled {
		return
	}
	in.text = in.text[:0]
	sendings.Put(in)
}

// checkMessages finds what makes the whole request fail. The 2024 server leaves it to its database to refuse some keys
// and crashes then; it drops NUL from data in silence.
func (c *call) checkMessages(messages []store.Message) error {
	aug2024 := c.compat == Aug2024
	if len(messages) > maxMessages && !aug2024 {
		return badRequest("Too many messages: a request can have at most 1,000, this one has %d", len(messages))
	}
	var crash error
	tokens := 0
	for i := range messages {
		m := &messages[i]
		if fault := checkKey(m.Key); fault == keyUnprintable && aug2024 {
			crash = errCrash
		} else if fault != keyFine {
			return badRequest("Invalid key format: Key %s", fault)
		}
		if strings.IndexByte(m.Data, 0) >= 0 {
			if !aug2024 {
				return badRequest("Invalid message data: data must not contain null characters (key %q)", m.Key)
			}
			m.Data = strings.ReplaceAll(m.Data, "\x00", "")
		}
		if aug2024 {
			tokens = max(tokens, 1+strings.Count(m.Key, "."))
		}
	}
	if aug2024 && len(messages)*(5+tokens)+1 > maxBindParameters {
		crash = errCrash
	}
	return crash
}

// once runs a send, or, when the request has an Idempotency-Key that a success of this stream had, answers that one's
// answer instead.
func (c *call) once(s store.Stream, body []byte, send func() (int, error)) (int, error) {
	key := c.r.Header.Get("Idempotency-Key")
	if key == "" || c.compat == Aug2024 {
		return send()
	}
	if len(key) > maxReplayKey {
		return 0, badRequest("Invalid Idempotency-Key: it can have at most %d characters", maxReplayKey)
	}
	all, _ := c.replays.LoadOrStore(s.ID(), newReplays())
	return all.(*replays).once(c.r.Context(), key, body, send)
}
