package server

import (
	"sync"

	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/server/internal/store"
)

// sendRequest is the parsed body of a send. It is reused: the store keeps the strings of its messages, but not the slice.
type sendRequest struct {
	scanner  jscan.Scanner
	text     []byte // keys and data, one after the other
	spans    []span
	messages []store.Message
	invalid  error // what is wrong with the messages of a body that is JSON

	firstWins bool // of several members of one name the first counts, not the last
}

// span is a message in the text: the lengths of its key and its data, which follow the message before.
type span struct{ key, data int }

var sendRequests = sync.Pool{New: func() any { return new(sendRequest) }}

// parse parses a body, and returns false if it is not JSON.
func (in *sendRequest) parse(body []byte) bool {
	in.invalid = errNoMessages
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
	seen := false
	for {
		name, ok := s.Key()
		if !ok {
			break
		}
		if string(name) == "messages" && !(seen && in.firstWins) {
			seen = true
			in.parseMessages()
		} else {
			s.Skip()
		}
	}
	if s.Done() != nil {
		return false
	}
	in.buildMessages()
	return true
}

func (in *sendRequest) parseMessages() {
	s := &in.scanner
	in.text, in.spans, in.invalid = in.text[:0], in.spans[:0], nil
	if s.Kind() != jscan.Array {
		in.invalid = errNoMessages
		s.Skip()
		return
	}
	s.Array()
	for s.Elem() {
		if !in.parseMessage() {
			in.invalid = errFormat
		}
	}
}

// parseMessage adds a message to the text. When it returns false the message is invalid, and a part of it may be in the
// text.
func (in *sendRequest) parseMessage() bool {
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
		// The data came before the key, or a member occurred twice: write both again, in order.
		text := string(in.text[key.begin:key.end]) + string(in.text[data.begin:data.end])
		in.text = append(in.text[:begin], text...)
	}
	in.spans = append(in.spans, span{key.end - key.begin, data.end - data.begin})
	return true
}

// field is the place of a string in the text.
type field struct {
	begin, end int
	seen       bool
	ok         bool // it is a string
}

func (in *sendRequest) parseField(f *field) {
	s := &in.scanner
	if f.seen && in.firstWins {
		s.Skip()
		return
	}
	f.seen = true
	if f.ok = s.Kind() == jscan.String; !f.ok {
		s.Skip()
		return
	}
	f.begin = len(in.text)
	in.text = append(in.text, s.String()...)
	f.end = len(in.text)
}

// buildMessages makes the messages from a single copy of the text.
func (in *sendRequest) buildMessages() {
	if in.invalid != nil {
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

// release returns the request to the pool, without the strings of its messages.
func (in *sendRequest) release() {
	clear(in.messages)
	in.messages, in.spans = in.messages[:0], in.spans[:0]
	in.scanner.Reset(nil)
	if cap(in.text) > maxPooled {
		return
	}
	in.text = in.text[:0]
	sendRequests.Put(in)
}
