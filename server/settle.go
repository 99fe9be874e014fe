package server

import (
	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/server/internal/store"
)

var errAckIDs = badRequest("Invalid ack_ids. Must send a top-level `ack_ids` property that is a non-empty list of valid UUID strings")

func (c *call) ack() error { return c.settle(store.Ack) }

func (c *call) nack() error { return c.settle(store.Nack) }

func (c *call) settle(how store.Settlement) error {
	buf, err := c.sendBody()
	defer putBuffer(buf)
	if err != nil {
		return err
	}
	in := settling{problem: errAckIDs}
	if !in.parse(*buf) {
		return errMalformed
	}
	consumer, err := c.workingConsumer()
	if err != nil {
		return err
	}
	switch {
	case in.problem != nil:
		return in.problem
	case in.undashed && c.compat == Aug2024:
		return errBadCast // its check lets such ids pass, its database does not
	case in.undashed:
		return errAckIDs
	}
	if how == store.Nack && in.undelivered && c.compat != Aug2024 {
		how = store.Return
	}
	if err := consumer.Settle(in.ids, how); err != nil {
		return err
	}
	return c.ok(map[string]bool{"success": true})
}

// settling is the body of an ack or nack taken apart.
type settling struct {
	ids         []store.ID
	undelivered bool
	undashed    bool  // an id is a UUID without dashes
	problem     error // what is wrong with the ids, in well-formed JSON
}

// parse reads a body and tells whether it is JSON.
func (in *settling) parse(body []byte) bool {
	if len(body) == 0 {
		return true
	}
	if !isText(body) {
		return false
	}
	var s jscan.Scanner
	s.Reset(body)
	if s.Kind() != jscan.Object {
		s.Skip()
		return s.Done() == nil
	}
	s.Object()
	for {
		name, ok := s.Key()
		if !ok {
			break
		}
		switch {
		case string(name) == "ack_ids":
			in.parseIDs(&s, len(body))
		case string(name) == "undelivered" && s.Kind() == jscan.Bool:
			in.undelivered = s.Bool()
		default:
			s.Skip()
		}
	}
	return s.Done() == nil
}

// idText is what an id takes of a body at least: 36 characters, quotes and a comma.
const idText = 39

func (in *settling) parseIDs(s *jscan.Scanner, size int) {
	in.ids, in.undashed, in.problem = make([]store.ID, 0, size/idText+1), false, nil
	if s.Kind() != jscan.Array {
		in.problem = errAckIDs
		s.Skip()
		return
	}
	s.Array()
	for s.Elem() {
		if s.Kind() != jscan.String {
			in.problem = errAckIDs
			s.Skip()
			continue
		}
		in.parseID(s.String())
	}
	if len(in.ids) == 0 && !in.undashed {
		in.problem = errAckIDs
	}
}

func (in *settling) parseID(text []byte) {
	if len(text) == 32 {
		text = dashed(text)
		in.undashed = true
	}
	id, ok := store.ParseID(text)
	if !ok {
		in.problem = errAckIDs
		return
	}
	in.ids = append(in.ids, id)
}

func dashed(text []byte) []byte {
	out := make([]byte, 0, 36)
	for i, b := range text {
		if i == 8 || i == 12 || i == 16 || i == 20 {
			out = append(out, '-')
		}
		out = append(out, b)
	}
	return out
}
