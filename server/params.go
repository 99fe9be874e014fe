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
	p := params{}
	if c.r.URL.RawQuery != "" {
		p.addValues(c.r.URL.Query())
	}
	media := c.mediaType()
	if media == otherMedia {
		return p, nil
	}
	buf, err := c.readBody()
	defer putBuffer(buf)
	if err != nil || len(*buf) == 0 {
		return p, err
	}
	if media == formMedia {
		form, err := url.ParseQuery(string(*buf))
		if err != nil {
			return nil, errMalformed
		}
		p.addValues(form)
		return p, nil
	}
	return p, p.addJSON(*buf)
}

// query returns the values of the query alone.
func (c *call) query() params {
	p := params{}
	p.addValues(c.r.URL.Query())
	return p
}

func (p params) addValues(values url.Values) {
	for name, list := range values {
		p[name] = list[len(list)-1]
	}
}

// addJSON adds the members of an object. A value of another type is not an error; it adds nothing.
func (p params) addJSON(body []byte) error {
	if !isText(body) {
		return errMalformed
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return errMalformed
	}
	if _, err := d.Token(); err != io.EOF {
		return errMalformed
	}
	if members, ok := v.(map[string]any); ok {
		for name, value := range members {
			p[name] = value
		}
	}
	return nil
}

// form reads params as the fields of a stream or a consumer, and collects what is wrong with them.
type form struct {
	params params
	errors map[string][]string // by field
}

func (f *form) reject(field, text string) {
	if f.errors == nil {
		f.errors = map[string][]string{}
	}
	f.errors[field] = append(f.errors[field], text)
}

func (f *form) err() error {
	if f.errors == nil {
		return nil
	}
	return invalid(f.errors)
}

// text reads a required string.
func (f *form) text(field string) string {
	switch v := f.params[field].(type) {
	case nil:
	case string:
		if v != "" {
			return v
		}
	default:
		f.reject(field, "is invalid")
		return ""
	}
	f.reject(field, "can't be blank")
	return ""
}

// flag reads a boolean, or a string that stands for one. An absent one or null is false.
func (f *form) flag(field string) bool {
	switch v := f.params[field]; v {
	case nil, false, "false", "0":
		return false
	case true, "true", "1":
		return true
	default:
		f.reject(field, "is invalid")
		return false
	}
}

// positive reads an integer above zero, or a string of digits, into value. An absent one leaves value as it is. Null sets
// it to 0, and is rejected unless the field is nullable.
func (f *form) positive(field string, value *int, nullable bool) {
	v, given := f.params[field]
	if !given {
		return
	}
	if v == nil {
		*value = 0
		if !nullable {
			f.reject(field, "can't be blank")
		}
		return
	}
	n, ok := integer(v)
	switch {
	case !ok:
		f.reject(field, "is invalid")
	case n <= 0:
		f.reject(field, "must be greater than 0")
	case n > maxInteger:
		f.reject(field, "must be less than or equal to "+strconv.Itoa(maxInteger))
	default:
		*value = int(n)
	}
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
