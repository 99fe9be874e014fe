package server

import (
	"errors"

	"github.com/sequin-go/sequin/internal/jscan"
	packed "github.com/sequin-go/sequin/server/internal/headers"
)

var errHeaders = errors.New("they must be an object with a string for each name")

// parseHeaders reads the headers of a message, an object or null, and packs them into the text.
func (in *sendRequest) parseHeaders() (packed.Packed, error) {
	s := &in.scanner
	switch s.Kind() {
	case jscan.Null:
		s.Skip()
		return "", nil
	case jscan.Object:
	default:
		s.Skip()
		return "", errHeaders
	}
	var err error
	in.headers = in.headers[:0]
	s.Object()
	for {
		name, ok := s.Key()
		if !ok {
			break
		}
		h := packed.Header{Name: in.keep(name)}
		if s.Kind() == jscan.String {
			h.Value = in.keep(s.String())
		} else {
			s.Skip()
			err = errHeaders
		}
		in.headers = append(in.headers, h)
	}
	if err != nil {
		return "", err
	}
	begin := len(in.text)
	in.text, err = packed.Append(in.text, in.headers)
	return packed.Packed(view(in.text[begin:])), err
}
