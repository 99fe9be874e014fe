package server

import (
	"sync"
	"unsafe"

	"github.com/sequin-go/sequin/internal/jscan"
	packed "github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

// sendRequest is the parsed body of a send. It is reused: a store keeps neither the messages nor their strings, which are in
// the body or in the text.
type sendRequest struct {
	scanner  jscan.Scanner
	text     []byte // the strings that are escaped in the body, unescaped
	messages []store.Message
	headers  []packed.Header // of the message that is read
	invalid  error           // what is wrong with the messages of a body that is JSON

	firstWins    bool // of several members of one name the first counts, not the last
	readsHeaders bool // messages may have headers
}

var sendRequests = sync.Pool{New: func() any { return new(sendRequest) }}

// parse parses a body, and returns false if it is not JSON. The body must not change until release.
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
	return s.Done() == nil
}

func (in *sendRequest) parseMessages() {
	s := &in.scanner
	in.messages, in.invalid = in.messages[:0], nil
	if s.Kind() != jscan.Array {
		in.invalid = errNoMessages
		s.Skip()
		return
	}
	s.Array()
	for s.Elem() {
		if err := in.parseMessage(); err != nil && in.invalid == nil {
			in.invalid = err
		}
	}
}

// parseMessage adds a message, or returns what is wrong with it.
func (in *sendRequest) parseMessage() error {
	s := &in.scanner
	if s.Kind() != jscan.Object {
		s.Skip()
		return errFormat
	}
	s.Object()
	var key, data field
	var headers packed.Packed
	var badHeaders error
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
		case "headers":
			if in.readsHeaders {
				headers, badHeaders = in.parseHeaders()
			} else {
				s.Skip()
			}
		default:
			s.Skip()
		}
	}
	switch {
	case !key.ok || !data.ok:
		return errFormat
	case badHeaders != nil:
		return badRequest("Invalid message headers: %v (key %q)", badHeaders, brief(key.value))
	}
	in.messages = append(in.messages, store.Message{Key: view(key.value), Data: view(data.value), Verbatim: data.verbatim, Headers: headers})
	return nil
}

// field is a member that has to be a string.
type field struct {
	value    []byte
	seen     bool
	ok       bool // it is a string
	verbatim bool // nothing in it is escaped
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
	value := s.String()
	f.verbatim = !s.Copied(value)
	f.value = in.keep(value)
}

// keep returns what the scanner has just returned, copied into the text if the scanner will overwrite it.
func (in *sendRequest) keep(value []byte) []byte {
	if !in.scanner.Copied(value) {
		return value
	}
	// When the text has no room it moves. The strings before stay where they are.
	begin := len(in.text)
	in.text = append(in.text, value...)
	return in.text[begin:]
}

// view returns bytes as a string that shares them.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// release returns the request to the pool, without the strings of its messages.
func (in *sendRequest) release() {
	clear(in.messages)
	clear(in.headers[:cap(in.headers)])
	in.messages = in.messages[:0]
	in.scanner.Reset(nil)
	if cap(in.text) > maxPooled {
		return
	}
	in.text = in.text[:0]
	sendRequests.Put(in)
}
