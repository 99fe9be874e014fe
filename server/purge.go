package server

import (
	"bytes"
	"encoding/json"

	"github.com/sequin-go/sequin/server/internal/store"
)

// purge removes messages of a stream. Only the documented mode has this route.
func (c *call) purge() error {
	if !c.srv.purges {
		c.answered.Route = otherRoute
		return c.noRoute()
	}
	buf, err := c.jsonBody()
	defer putBuffer(buf)
	if err != nil {
		return err
	}
	q, err := c.readPurge(*buf)
	if err != nil {
		return err
	}
	s, err := c.findStream()
	if err != nil {
		return err
	}
	n, err := s.(store.ExtendedStream).Purge(c.ctx(), q)
	if err != nil {
		return err
	}
	return c.ok(map[string]any{"data": map[string]any{"purged": n}})
}

// readPurge reads the body of a purge. It refuses what it does not know and what is said twice, because a bound that is not
// read would remove more than was meant.
func (c *call) readPurge(body []byte) (q store.PurgeQuery, err error) {
	if len(body) == 0 {
		return q, errPurge
	}
	if !isText(body) || !json.Valid(body) {
		return q, c.malformed(body)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return q, errPurge
	}
	seen, all := map[string]bool{}, false
	for d.More() {
		var v any
		name, err := d.Token()
		if err == nil {
			err = d.Decode(&v)
		}
		member, _ := name.(string)
		if err != nil || seen[member] {
			return q, badRequest("`%s` is there twice. %s", brief(member), errPurge.summary)
		}
		seen[member] = true
		switch member {
		case "before_seq":
			q.Before, err = purgeBound(v)
		case "key_pattern":
			if _, ok := v.(string); !ok {
				return q, badRequest("Invalid `key_pattern`. Must be a string")
			}
			q.Pattern, err = readPattern(v)
		case "all":
			if all = v == true; !all {
				err = badRequest("Invalid `all`. Must be true, or left out")
			}
		default:
			err = badRequest("Unknown member `%s`. %s", brief(member), errPurge.summary)
		}
		if err != nil {
			return q, err
		}
	}
	if all == (seen["before_seq"] || seen["key_pattern"]) {
		return q, errPurge
	}
	return q, nil
}

func purgeBound(v any) (int64, error) {
	n, isNumber := v.(json.Number)
	bound, err := n.Int64()
	if !isNumber || err != nil || bound < 1 {
		return 0, badRequest("Invalid `before_seq`. Must be an integer from 1")
	}
	return bound, nil
}
