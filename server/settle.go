package server

import (
	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/server/internal/store"
)

func (c *call) ack() error { return c.settle(store.Ack) }

func (c *call) nack() error { return c.settle(store.Nack) }

func (c *call) settle(how store.Settlement) error {
	buf, err := c.jsonBody()
	defer putBuffer(buf)
	if err != nil {
		return err
	}
	in := settleRequest{invalid: errAckIDs}
	if !in.parse(*buf) {
		return errMalformed
	}
	consumer, err := c.findReceiver()
	if err != nil {
		return err
	}
	switch {
	case in.invalid != nil:
		return in.invalid
	case in.undashed:
		return c.srv.dialect.undashedIDs
	}
	if how == store.Nack && in.undelivered && c.srv.dialect.undeliveredNacks {
		how = store.Return
	}
	if err := consumer.Settle(c.ctx(), in.ids, how); err != nil {
		return err
	}
	return c.ok(map[string]bool{"success": true})
}

// settleRequest is the parsed body of an ack or a nack.
type settleRequest struct {
	ids         []store.ID
	undelivered bool
	undashed    bool  // an id is a UUID without dashes
	invalid     error // what is wrong with the ids of a body that is JSON
}

// parse parses a body, and returns false if it is not JSON.
func (in *settleRequest) parse(body []byte) bool {
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

// idText is the least length of an id in a body: 36 characters, two quotes and a comma.
const idText = 39

func (in *settleRequest) parseIDs(s *jscan.Scanner, size int) {
	in.ids, in.undashed, in.invalid = make([]store.ID, 0, size/idText+1), false, nil
	if s.Kind() != jscan.Array {
		in.invalid = errAckIDs
		s.Skip()
		return
	}
	s.Array()
	for s.Elem() {
		if s.Kind() != jscan.String {
			in.invalid = errAckIDs
			s.Skip()
			continue
		}
		in.parseID(s.String())
	}
	if len(in.ids) == 0 && !in.undashed {
		in.invalid = errAckIDs
	}
}

func (in *settleRequest) parseID(text []byte) {
	if len(text) == 32 {
		text = dashed(text)
		in.undashed = true
	}
	id, ok := store.ParseID(text)
	if !ok {
		in.invalid = errAckIDs
		return
	}
	in.ids = append(in.ids, id)
}

// dashed adds the dashes to a UUID of 32 characters.
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
