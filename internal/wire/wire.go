// Package wire reads and writes the JSON of the requests that carry messages: sends, receives, acks and nacks. It takes
// and returns strings, numbers and times.
//
// The package keeps no state between calls, except in a Decoder, which its caller owns and may reuse. It does not know
// HTTP, leases, or which requests are retried. All other requests of the API are rare and use encoding/json.
package wire

import (
	"errors"
	"fmt"

	"github.com/sequin-go/sequin/internal/jscan"
)

// RequireField returns an error unless an answer has the named field. Without this check, the JSON of
// another server would decode without an error into zero values.
func RequireField(present bool, name string) error {
	if present {
		return nil
	}
	return fmt.Errorf("it has no %q", name)
}

// DecodePublished reads the answer to a send, {"data":{"published":…}}. When it returns an error the number is not valid.
func DecodePublished(body []byte) (published int, err error) {
	var s jscan.Scanner
	s.Reset(body)
	found := false
	member(&s, "data", func() {
		member(&s, "published", func() {
			if found = !s.Null(); found {
				published = int(s.Int())
			}
		})
	})
	return published, errors.Join(s.Done(), RequireField(found, "published"))
}

// DecodeSettled reads the answer to an ack or nack, {"success":true}. Status 200 alone is not enough: the login page of a
// captive portal has it too.
func DecodeSettled(body []byte) error {
	var s jscan.Scanner
	s.Reset(body)
	success := false
	member(&s, "success", func() { success = s.Bool() })
	return errors.Join(s.Done(), RequireField(success, "success"))
}

// member calls value at each member with that name of the object at which s stands, and skips the others.
func member(s *jscan.Scanner, name string, value func()) {
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		if string(key) == name {
			value()
		} else {
			s.Skip()
		}
	}
}
