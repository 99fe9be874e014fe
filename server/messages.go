package server

import (
	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/server/internal/store"
)

// The length of a list, as it was recorded.
const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// stateWords are the states of a message in a peek. The words "withheld" and "delayed" are this server's own: the 2024
// server keeps one message per key, and withholds and delays none.
var stateWords = [...]string{store.Available: "available", store.Delivered: "delivered", store.Withheld: "withheld", store.Acked: "acked", store.Delayed: "delayed"}

// infoWords are the states of a message in consumer_info.
var infoWords = [...]string{store.Available: "available", store.Delivered: "pending", store.Withheld: "withheld", store.Acked: "acked", store.Delayed: "delayed"}

func (c *call) listMessages() error {
	s, err := c.findStream()
	if err != nil {
		return err
	}
	q, err := c.listQuery(false)
	if err != nil {
		return err
	}
	return answerList(c, q.ListQuery, lister[store.Message]{
		list:    func(q store.ListQuery) ([]store.Message, error) { return s.List(c.ctx(), q) },
		message: func(m *store.Message) *store.Message { return m },
		encode:  func(e *encoder, m *store.Message) { e.message(s.ID(), m) },
	})
}

// listQuery reads what a list is asked for. Only a peek has the param visible.
func (c *call) listQuery(peek bool) (store.PeekQuery, error) {
	d, p := &c.srv.dialect, c.query()
	q := store.PeekQuery{ListQuery: store.ListQuery{Limit: defaultLimit}}
	switch p["sort"] {
	case nil, "seq_asc":
	case "seq_desc":
		q.Desc = true
	default:
		return q, badRequest("Invalid sort parameter")
	}
	var err error
	if v, given := p["limit"]; given {
		if q.Limit, err = d.readLimit(v); err != nil {
			return q, err
		}
	}
	if v, given := p["visible"]; given && peek {
		if q.Visible, err = readVisible(v); err != nil {
			return q, err
		}
	}
	if v, given := p["key_pattern"]; given {
		if q.Pattern, err = d.readPattern(v); err != nil {
			return q, err
		}
	}
	if c.srv.paging {
		return q, readBounds(p, &q.ListQuery)
	}
	return q, nil
}

// readBounds reads the bounds of a list's seqs. A before_seq of 0 is none, as other zeroes are.
func readBounds(p params, q *store.ListQuery) error {
	for name, bound := range map[string]*int64{"after_seq": &q.After, "before_seq": &q.Before} {
		v, given := p[name]
		if !given {
			continue
		}
		n, ok := integer(v)
		if !ok || n < 0 {
			return errSeq
		}
		*bound = n
	}
	return nil
}

func readLimit(v any) (int, error) {
	n, ok := integer(v)
	if !ok || n < 1 || n > maxLimit {
		return 0, badRequest("Invalid limit parameter")
	}
	return int(n), nil
}

func readVisible(v any) (*bool, error) {
	if v != "true" && v != "false" {
		return nil, badRequest("Invalid visible parameter")
	}
	visible := v == "true"
	return &visible, nil
}

func readPattern(v any) (string, error) {
	pattern, _ := v.(string)
	if text := checkPattern(pattern); text != "" {
		return "", badRequest("Invalid key pattern: %s", text)
	}
	return pattern, nil
}

func (c *call) getMessage() error {
	s, err := c.findStream()
	if err != nil {
		return err
	}
	if err := c.srv.dialect.checkText(c.key); err != nil {
		return err
	}
	m, err := s.Get(c.ctx(), c.key)
	if err != nil {
		return err
	}
	return c.encode(func(e *encoder) { e.message(s.ID(), &m) })
}

func (c *call) messageInfo() error {
	s, err := c.findStream()
	if err != nil {
		return err
	}
	if err := c.srv.dialect.checkText(c.key); err != nil {
		return err
	}
	m, views, err := s.States(c.ctx(), c.key)
	if err != nil {
		return err
	}
	return c.encode(func(e *encoder) {
		e.raw(`{"data":{"consumer_info":[`)
		for i := range views {
			v := &views[i]
			if i > 0 {
				e.raw(",")
			}
			e.raw(`{"consumer_id":"` + v.ConsumerID + `","consumer_name":"` + v.Name + `","consumer_filter_key_pattern":`)
			e.buf = jscan.AppendString(e.buf, v.Filter)
			e.raw(",")
			e.delivery(&v.View, infoWords[v.State])
			e.raw("}")
		}
		e.raw(`],"message":`)
		e.message(s.ID(), &m)
		e.raw("}}")
	})
}

func (c *call) peek() error {
	s, err := c.findStream()
	if err != nil {
		return err
	}
	consumer, err := c.findConsumerIn(s)
	if err != nil {
		return err
	}
	q, err := c.listQuery(true)
	if err != nil {
		return err
	}
	return answerList(c, q.ListQuery, lister[store.View]{
		list: func(list store.ListQuery) ([]store.View, error) {
			q.ListQuery = list
			return consumer.Peek(c.ctx(), q)
		},
		message: func(v *store.View) *store.Message { return &v.Message },
		encode: func(e *encoder, v *store.View) {
			e.raw(`{"info":{`)
			e.delivery(v, stateWords[v.State])
			e.raw(`},"message":`)
			e.message(s.ID(), &v.Message)
			e.raw("}")
		},
	})
}
