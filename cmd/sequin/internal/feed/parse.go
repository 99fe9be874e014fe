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
// its JSON. Other fields are ignored, so that what "sequin receive --json" prints can be sent.
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
		default:
			s.Skip()
		}
	}
	switch err := s.Done(); {
	case err != nil:
		return sequin.Message{}, fmt.Errorf("not a JSON object with a key: %w", err)
	case !hasKey:
		return sequin.Message{}, errors.New(`there is no "key"`)
	case !hasData:
		return sequin.Message{}, errors.New(`there is no "data"`)
	}
	return m, nil
}

// text returns the next value: a string as it is, and other values as JSON.
func text(s *jscan.Scanner) string {
	if s.Kind() == jscan.String {
		return string(s.String())
	}
	return string(s.Raw())
}
