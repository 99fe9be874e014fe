package server

import (
	"bytes"
	"encoding/json"
	"io"
	"net/url"
	"strconv"
)

// params are the values of a request outside its path: those of the query, and those of a JSON object or a form in the
// body, which take precedence.
type params map[string]any

func (c *call) params() (params, error) {
	if c.srv.dialect.plug {
		return c.plug.params, nil
	}
	p := params{}
	if c.r.URL.RawQuery != "" {
		p.addValues(c.r.URL.Query())
	}
	media := c.mediaType()
	if media == otherMedia {
		return p, nil
	}
	buf, err := c.readBody(c.srv.limits.RequestBytes)
	defer putBuffer(buf)
	if err != nil || len(*buf) == 0 {
		return p, err
	}
	switch media {
	case noMedia:
		return nil, errUntyped
	case formMedia:
		form, err := url.ParseQuery(string(*buf))
		if err != nil {
			return nil, errMalformed
		}
		p.addValues(form)
		return p, nil
	}
	if !p.addJSON(*buf) {
		return nil, c.malformed(*buf)
	}
	return p, nil
}

// query returns the values of the query alone.
func (c *call) query() params {
	if c.srv.dialect.plug {
		return c.plug.params
	}
	p := params{}
	p.addValues(c.r.URL.Query())
	return p
}

func (p params) addValues(values url.Values) {
	for name, list := range values {
		p[name] = list[len(list)-1]
	}
}

// addJSON adds the members of an object, and returns false if the body is not JSON. A value of another type adds nothing.
func (p params) addJSON(body []byte) bool {
	if !isText(body) {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return false
	}
	if _, err := d.Token(); err != io.EOF {
		return false
	}
	if members, ok := v.(map[string]any); ok {
		for name, value := range members {
			p[name] = value
		}
	}
	return true
}

// maxInteger is the largest value of the integer columns in Sequin's database.
const maxInteger = 1<<31 - 1

// integer reads a JSON number without a fraction, or a string of digits.
func integer(v any) (int64, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}
