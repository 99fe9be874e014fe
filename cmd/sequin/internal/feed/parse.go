package feed

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/internal/jscan"
)

// errNotUTF8 refuses a line whose bytes would be replaced.
var errNotUTF8 = errors.New("not valid UTF-8")

// printed are the fields of what "receive --json", "messages --json" and "peek --json" print. They are ignored, so that it can be
// sent.
var printed = []string{
	"seq", "stream_id", "data_hash", "inserted_at", "updated_at", "ack_id", "deliver_count", "state", "last_delivered_at", "not_visible_until",
}

// ParseMessage makes a message of a line {"key":…,"data":…}. Data that is a string is the data itself; other data is sent as
// its JSON. "headers" may be an object of strings, or null. The fields in printed are ignored. Another field refuses the line,
// because it may be a misspelt one, and so does a field that is there twice.
func ParseMessage(line []byte) (m sequin.Message, err error) {
	if !utf8.Valid(line) {
		return m, errNotUTF8
	}
	if !bytes.HasPrefix(line, []byte("{")) {
		return m, errors.New(`not a JSON object: want {"key":"…","data":…}`)
	}
	var s jscan.Scanner
	s.Reset(line)
	s.Object()
	var fields struct{ key, data, headers bool }
	var wrong error // the first
	once := func(name string, seen *bool) {
		if *seen && wrong == nil {
			wrong = fmt.Errorf("%q is there twice", name)
		}
		*seen = true
	}
	for {
		name, ok := s.Key()
		if !ok {
			break
		}
		switch string(name) {
		case "key":
			once("key", &fields.key)
			m.Key = string(s.String())
		case "data":
			once("data", &fields.data)
			m.Data = text(&s)
		case "headers":
			once("headers", &fields.headers)
			var twice error
			m.Headers, twice = headers(&s)
			wrong = cmp.Or(wrong, twice)
		default:
			if wrong == nil && !slices.Contains(printed, string(name)) {
				wrong = fmt.Errorf(`there is no field %q: a line has "key", "data" and "headers"`, name)
			}
			s.Skip()
		}
	}
	switch err := s.Done(); {
	case err != nil:
		return sequin.Message{}, fmt.Errorf("not a JSON object with a key, data and headers: %w", err)
	case wrong != nil:
		return sequin.Message{}, wrong
	case !fields.key:
		return sequin.Message{}, errors.New(`there is no "key"`)
	case !fields.data:
		return sequin.Message{}, errors.New(`there is no "data"`)
	}
	return m, nil
}

// headers returns the next value, an object of strings or null. twice is the error of a name that is there twice.
func headers(s *jscan.Scanner) (all map[string]string, twice error) {
	if s.Null() {
		return nil, nil
	}
	s.Object()
	all = map[string]string{}
	for {
		key, ok := s.Key()
		if !ok {
			return all, twice
		}
		name := string(key)
		if _, seen := all[name]; seen {
			twice = fmt.Errorf("the header %q is there twice", name)
		}
		all[name] = string(s.String())
	}
}

// text returns the next value: a string as it is, and other values as JSON.
func text(s *jscan.Scanner) string {
	if s.Kind() == jscan.String {
		return string(s.String())
	}
	return string(s.Raw())
}
