package envelope

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/sequin-go/sequin/internal/jscan"
)

// Decode reads the data of a message. ok reports whether it is an envelope. Data that is no JSON object with a number as its
// member "envelope" is not one: then the payload is the data, byte for byte, so that messages of other programs arrive as well.
//
// An envelope of another version than 1, with a member of the wrong type, with one of its members twice, or with more than
// one payload is an error that wraps ErrInvalid.
//
// The strings of e may share the memory of data. Decode may be called concurrently.
func Decode(data string) (e Envelope, ok bool, err error) {
	text := []byte(data)
	d := decoder{data: data}
	d.scan.Reset(text)
	if d.scan.Kind() != jscan.Object {
		return Envelope{Payload: text}, false, nil
	}
	d.members()
	if d.scan.Done() != nil || d.version == "" {
		return Envelope{Payload: text}, false, nil
	}
	if err := d.check(); err != nil {
		return Envelope{}, false, err
	}
	return d.e, true, nil
}

// decoder reads one text.
type decoder struct {
	data string
	scan jscan.Scanner
	e    Envelope

	version string // the number that is the version, empty without one
	seen    seen
	problem error // the first, of a text that may turn out not to be an envelope
}

// seen has a bit for each known member.
type seen uint8

const (
	seenVersion seen = 1 << iota
	seenID
	seenMetadata
	seenPayload // of any kind: there is at most one
)

// members reads all members of the object.
func (d *decoder) members() {
	s := &d.scan
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case memberVersion:
			d.once(memberVersion, seenVersion)
			if s.Kind() == jscan.Number {
				d.version = string(s.Raw())
			} else {
				s.Skip()
			}
		case memberID:
			d.once(memberID, seenID)
			d.e.ID = d.text(memberID)
		case memberMetadata:
			d.once(memberMetadata, seenMetadata)
			d.metadata()
		case memberJSON:
			d.once("a payload", seenPayload)
			d.e.Payload = s.Raw()
		case memberText:
			d.once("a payload", seenPayload)
			d.e.Payload = []byte(d.text(memberText))
		case memberBase64:
			d.once("a payload", seenPayload)
			d.base64()
		default:
			s.Skip()
		}
	}
}

// once notes that a member was seen.
func (d *decoder) once(name string, bit seen) {
	if d.seen&bit != 0 {
		d.fail(invalid("it has %s twice", name))
	}
	d.seen |= bit
}

// fail notes the first problem.
func (d *decoder) fail(err error) {
	if d.problem == nil {
		d.problem = err
	}
}

// text reads a member that is a text.
func (d *decoder) text(name string) string {
	s := &d.scan
	if kind := s.Kind(); kind != jscan.String {
		d.fail(invalid("%q is %s, and must be a text", name, kind))
		s.Skip()
		return ""
	}
	start := s.Mark() + 1 // behind the quote
	value := s.String()
	if end := start + len(value); end <= len(d.data) && d.data[start:end] == string(value) {
		return d.data[start:end] // it has no escapes, and needs no memory of its own
	}
	return string(value)
}

// metadata reads the object of texts.
func (d *decoder) metadata() {
	s := &d.scan
	if kind := s.Kind(); kind != jscan.Object {
		d.fail(invalid("%q is %s, and must be an object", memberMetadata, kind))
		s.Skip()
		return
	}
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		if d.e.Metadata == nil {
			d.e.Metadata = make(map[string]string)
		}
		name := string(key)
		d.e.Metadata[name] = d.text(name)
	}
}

// base64 reads a payload that is neither JSON nor text. Line breaks, which encoding/base64 skips, are as wrong as other characters
// that are not in the alphabet of RFC 4648.
func (d *decoder) base64() {
	text := d.text(memberBase64)
	if i := strings.IndexAny(text, "\r\n"); i >= 0 {
		d.fail(invalid("%q: illegal line break at input byte %d", memberBase64, i))
		return
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		d.fail(invalid("%q: %s", memberBase64, err))
		return
	}
	d.e.Payload = payload
}

// check returns the error of an envelope.
func (d *decoder) check() error {
	if d.version != "1" {
		if number, err := strconv.ParseFloat(d.version, 64); err != nil || number != 1 {
			return invalid("its version is %s, and this reader knows version 1", d.version)
		}
	}
	return d.problem
}
