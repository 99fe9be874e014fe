// Package envelope puts a payload of any bytes, an id and metadata into the data of one message.
//
// A message of a stream has a key and a text. Programs that need more, such as adapters for other libraries, write the text
// as JSON. Any language can read it, and Postgres can query it:
//
//	{"envelope":1,"id":"0f8f","metadata":{"tenant":"7"},"payload":{"qty":4}}
//	{"envelope":1,"id":"0f8f","payload_text":"plain words"}
//	{"envelope":1,"id":"0f8f","payload_base64":"/wAB"}
//
// The member envelope is the version, 1. The members id and metadata are left out when they are empty. There is at most one
// payload, and none when it is empty:
//
//   - payload is a payload that is JSON in UTF-8, and does not begin or end with white space. It is written as it is.
//   - payload_text is other UTF-8 without NUL.
//   - payload_base64 is everything else, in the padded standard encoding of RFC 4648.
//
// A reader takes the members in any order, and ignores others.
package envelope

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Envelope is what one message holds.
type Envelope struct {
	// ID is any text. It is left out when it is empty.
	ID string
	// Metadata has any names and values. Decode returns nil when there are none.
	Metadata map[string]string
	// Payload has any bytes, and is returned byte for byte. Decode returns no bytes, or nil, when it is empty.
	Payload []byte
}

// ErrInvalid is the error of Encode for an id or metadata that are not UTF-8, and that of Decode for an envelope of an unknown
// version or with members of the wrong type. The errors that wrap it say what is wrong.
var ErrInvalid = errors.New("envelope: invalid")

// invalid returns an error that wraps ErrInvalid.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// checkText returns an error if a text is not UTF-8, because JSON cannot hold it.
func checkText(what, text string) error {
	if utf8.ValidString(text) {
		return nil
	}
	return invalid("%s is not UTF-8: %q", what, text)
}
