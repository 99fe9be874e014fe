package envelope

import (
	"encoding/base64"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/sequin-go/sequin/internal/jscan"
)

// The names of the members, as they are written.
const (
	memberVersion  = "envelope"
	memberID       = "id"
	memberMetadata = "metadata"
	memberJSON     = "payload"
	memberText     = "payload_text"
	memberBase64   = "payload_base64"
)

// Encode returns the data of a message that holds e. Metadata is sorted by its names, so that equal envelopes have equal data.
// The error wraps ErrInvalid if the id or the metadata is not UTF-8. Encode may be called concurrently.
func (e Envelope) Encode() (string, error) {
	buffer := buffers.Get().(*[]byte)
	b, err := e.append((*buffer)[:0])
	if err != nil {
		return "", err
	}
	data := string(b)
	if cap(b) <= maxBuffer {
		*buffer = b
		buffers.Put(buffer)
	}
	return data, nil
}

// buffers holds slices that Encode builds texts in, so that an envelope takes one allocation.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxBuffer is the largest slice that is kept. Larger envelopes are rare, and would keep their memory.
const maxBuffer = 64 << 10

func (e Envelope) append(b []byte) ([]byte, error) {
	b = append(b, `{"envelope":1`...)
	if e.ID != "" {
		if err := checkText("the id", e.ID); err != nil {
			return nil, err
		}
		b = jscan.AppendString(append(b, `,"id":`...), e.ID)
	}
	b, err := e.appendMetadata(b)
	if err != nil {
		return nil, err
	}
	return append(e.appendPayload(b), '}'), nil
}

func (e Envelope) appendMetadata(b []byte) ([]byte, error) {
	if len(e.Metadata) == 0 {
		return b, nil
	}
	var stack [8]string // more names take an allocation
	names := stack[:0]
	for name := range e.Metadata {
		names = append(names, name)
	}
	slices.Sort(names)
	b = append(b, `,"metadata":`...)
	separator := byte('{')
	for _, name := range names {
		value := e.Metadata[name]
		if err := checkText("a name of the metadata", name); err != nil {
			return nil, err
		}
		if !utf8.ValidString(value) { // to call checkText would make the name of each value
			return nil, checkText("the value of "+name, value)
		}
		b = jscan.AppendString(append(b, separator), name)
		b = jscan.AppendString(append(b, ':'), value)
		separator = ','
	}
	return append(b, '}'), nil
}

func (e Envelope) appendPayload(b []byte) []byte {
	if len(e.Payload) == 0 {
		return b
	}
	if isJSON(e.Payload) {
		return append(append(b, `,"payload":`...), e.Payload...)
	}
	if _, ok := jscan.StringSize(string(e.Payload)); ok { // UTF-8 without NUL
		return jscan.AppendStringBytes(append(b, `,"payload_text":`...), e.Payload)
	}
	b = base64.StdEncoding.AppendEncode(append(b, `,"payload_base64":"`...), e.Payload)
	return append(b, '"')
}

// isJSON reports whether a payload can stand in an envelope as it is, and be read back as it was.
func isJSON(payload []byte) bool {
	if !beginsJSON(payload[0]) || isSpace(payload[len(payload)-1]) || !utf8.Valid(payload) {
		return false
	}
	var s jscan.Scanner
	s.Reset(payload)
	s.Skip()
	if s.Done() != nil {
		return false
	}
	return len(payload) < 2*maxDepth || nestsInside(payload)
}

// beginsJSON reports whether a JSON value can begin with b. Most words are told from JSON by their first letter: a scan that
// fails makes an error, which costs more.
func beginsJSON(b byte) bool {
	switch b {
	case '{', '[', '"', '-', 't', 'f', 'n':
		return true
	}
	return '0' <= b && b <= '9'
}

// maxDepth is how deeply a reader lets JSON be nested.
const maxDepth = 10_000

// nestsInside reports whether a reader accepts a payload inside of an object, which is one level more.
func nestsInside(payload []byte) bool {
	var s jscan.Scanner
	s.Reset(slices.Concat([]byte{'['}, payload, []byte{']'}))
	s.Skip()
	return s.Done() == nil
}

// isSpace reports whether b is white space in JSON.
func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }
