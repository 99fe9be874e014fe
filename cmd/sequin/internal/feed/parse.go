package feed

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/internal/jscan"
)

// errNotUTF8 refuses a line whose bytes would be replaced.
var errNotUTF8 = errors.New("not valid UTF-8")

// ParseMessage makes a message of a line {"key":…,"data":…}. Data that is a string is the data itself; other data is sent as
// its JSON. "headers" may be an object of strings, or null. Other fields are ignored, so that what "sequin receive --json" prints can
// be sent.
func ParseMessage(line []byte) (m sequin.Message, err error) {
	if !utf8.Valid(line) {
		return m, errNotUTF8
	}
	var s jscan.Scanner
	s.Reset(line)
	s.Object()
	hasKey, hasData := false, false
	for {
		name, ok := s.Key()
		if !ok {
			break
		}
		switch string(name) {
		case "key":
			hasKey, m.Key = true, string(s.String())
		case "data":
			hasData, m.Data = true, text(&s)
		case "headers":
			m.Headers = headers(&s)
		default:
			s.Skip()
		}
	}
	switch err := s.Done(); {
	case err != nil:
		return sequin.Message{}, fmt.Errorf("not a JSON object with a key, data and headers: %w", err)
	case !hasKey:
		return sequin.Message{}, errors.New(`there is no "key"`)
	case !hasData:
		return sequin.Message{}, errors.New(`there is no "data"`)
	}
	return m, nil
}

// headers returns the next value, an object of strings or null.
func headers(s *jscan.Scanner) map[string]string {
	if s.Null() {
		return nil
	}
	s.Object()
	all := map[string]string{}
	for {
		key, ok := s.Key()
		if !ok {
			return all
		}
		name := string(key)
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
