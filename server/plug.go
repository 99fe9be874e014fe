package server

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
)

// Plug is the web framework of the 2024 server and of a released Sequin. This file is what it does with a request before a route
// runs: it limits the lines of the header, reads the query and the body, lets the body override the method, and looks at the
// Accept header.

// plugged is what was read of a request before its route.
type plugged struct {
	method string // overrides that of the request
	media  media
	body   *[]byte // nil for a body that is not read
	query  params
	params params // of the query and the body; nil when the body of a message route was not decoded
}

const (
	// maxLine is the longest request line, and the longest line of a header, in bytes.
	maxLine = 10_000
	// maxHeaders is the largest number of header lines.
	maxHeaders = 50
	// maxForm is the largest body of a form.
	maxForm = 1_000_000
	// maxChunked is the largest body in chunks over HTTP/1. The 2024 server has no limit there. This one protects its memory.
	maxChunked = 64_000_000
)

// admitPlug reads a request, and returns what it is refused with before any route is looked for.
func (c *call) admitPlug() error {
	if err := c.checkLines(); err != nil {
		return err
	}
	if err := c.readPlugQuery(); err != nil || !c.mayHavePlugBody() {
		return err
	}
	if err := c.readPlugBody(); err != nil {
		return err
	}
	if c.isPlain() {
		return nil
	}
	body, err := c.decodePlugBody(c.plugBody())
	c.overrideMethod(body)
	return err
}

// readPlugQuery reads the query, which is all that the params of a request without a body have.
func (c *call) readPlugQuery() error {
	if c.r.URL.RawQuery != "" {
		query := newValues()
		if !query.parse(c.r.URL.RawQuery) {
			return errMalformed
		}
		c.plug.query = query.object()
	}
	if !c.mayHavePlugBody() {
		c.plug.params = c.plug.query
	}
	return nil
}

// mayHavePlugBody reports whether the body of a request of that method is read.
func (c *call) mayHavePlugBody() bool {
	return slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, c.r.Method)
}

// overrideMethod lets the values of a body override the method.
func (c *call) overrideMethod(body params) {
	if name, ok := body["_method"].(string); ok && c.r.Method == http.MethodPost {
		if name = strings.ToUpper(name); slices.Contains([]string{http.MethodPut, http.MethodPatch, http.MethodDelete}, name) {
			c.plug.method = name
		}
	}
}

// checkLines limits the lines of a request by HTTP/1.
func (c *call) checkLines() error {
	if c.r.ProtoMajor != 1 {
		return nil
	}
	const ends = len(" ") + len(" HTTP/1.1\r\n")
	if len(c.r.Method)+len(c.r.RequestURI)+ends > maxLine {
		return errLongURI
	}
	lines := 1 // that of Host, which net/http takes out of the header
	for name, all := range c.r.Header {
		for _, value := range all {
			lines++
			if len(name)+len(value)+len(": \r\n") > maxLine {
				return errLongHeader
			}
		}
	}
	if lines > maxHeaders {
		return errLongHeader
	}
	return nil
}

// plugHeader returns the line of a header that counts when there are several: for the 2024 server over HTTP/1 the last, and
// otherwise the first.
func (c *call) plugHeader(name string) (value string, given bool) {
	all := c.r.Header[name]
	switch {
	case len(all) == 0:
		return "", false
	case c.srv.dialect.plug && c.r.ProtoMajor == 1:
		return all[len(all)-1], true
	}
	return all[0], true
}

func (c *call) readPlugBody() error {
	header, given := c.plugHeader("Content-Type")
	if !given {
		return nil
	}
	c.plug.media, _ = parseMedia(header)
	limit := c.srv.limits.RequestBytes
	switch {
	case c.plug.media.isForm():
		limit = min(limit, maxForm)
	case !c.plug.media.hasJSON() && !c.plug.media.isMultipart():
		return nil
	}
	if c.srv.dialect.plug && c.r.ProtoMajor == 1 && c.r.ContentLength < 0 {
		limit = maxChunked
	}
	var err error
	c.plug.body, err = c.readBody(limit)
	return err
}

// hasJSON reports whether a body of the type is JSON, which is more than what an Accept header may name for JSON.
func (m media) hasJSON() bool {
	return m.kind == "application" && (m.sub == "json" || strings.HasSuffix(m.sub, "+json"))
}

func (m media) isForm() bool { return m.kind == "application" && m.sub == "x-www-form-urlencoded" }

func (m media) isMultipart() bool {
	return m.kind == "multipart" && (m.sub == "form-data" || m.sub == "mixed")
}

// plugBody returns the body, or nothing when it was not read.
func (c *call) plugBody() []byte {
	if c.plug.body == nil {
		return nil
	}
	return *c.plug.body
}

// takePlugBody returns the body if it is JSON, in a buffer that the caller returns to the pool.
func (c *call) takePlugBody() *[]byte {
	buf := c.plug.body
	if buf == nil || !c.plug.media.hasJSON() {
		return getBuffer()
	}
	c.plug.body = nil
	return buf
}

// releasePlug returns the body to the pool.
func (c *call) releasePlug() {
	if c.plug.body != nil {
		putBuffer(c.plug.body)
		c.plug.body = nil
	}
}

// isPlain reports whether the request is a send or a settle that the handlers can read without decodePlugBody, which is
// slower: its body is JSON and overrides nothing, and the answer will be JSON.
func (c *call) isPlain() bool {
	path := c.r.URL.Path
	if c.r.Method != http.MethodPost || !c.plug.media.hasJSON() || !c.acceptable() || bytes.Contains(c.plugBody(), []byte(`"_`)) {
		return false
	}
	return strings.HasSuffix(path, "/messages") || strings.HasSuffix(path, "/ack") || strings.HasSuffix(path, "/nack")
}

// plugParams returns the params of a message route, whose body may not have been decoded yet.
func (c *call) plugParams(body []byte) (params, error) {
	if c.plug.params == nil {
		if _, err := c.decodePlugBody(body); err != nil {
			return nil, err
		}
	}
	return c.plug.params, nil
}

// decodePlugBody decodes the body, and adds its values and those of the query to the params. Those of the body take
// precedence. It returns the values of the body.
func (c *call) decodePlugBody(body []byte) (params, error) {
	var members params
	var err error
	switch {
	case c.plug.media.hasJSON() && len(body) > 0:
		v, ok := decodePlug(body)
		if !ok {
			return nil, errMalformed
		}
		if members, ok = v.(map[string]any); !ok {
			members = params{"_json": v}
		}
	case c.plug.media.isForm():
		form := newValues()
		if !form.parse(string(body)) {
			return nil, errMalformed
		}
		members = form.object()
	case c.plug.media.isMultipart():
		members, err = decodeMultipart(body, c.plugHeaderOf("Content-Type"))
	}
	c.plug.params = params{}
	for name, value := range c.plug.query {
		c.plug.params[name] = value
	}
	for name, value := range members {
		c.plug.params[name] = value
	}
	return members, err
}

func (c *call) plugHeaderOf(name string) string {
	value, _ := c.plugHeader(name)
	return value
}

// acceptable reports whether the client takes JSON. A param _format takes precedence over the header.
func (c *call) acceptable() bool {
	all := c.plug.params
	if all == nil {
		all = c.plug.query
	}
	if format, given := all["_format"]; given {
		return format == "json"
	}
	header, given := c.plugHeader("Accept")
	return accepts(header, given, jsonFormat) == jsonFormat
}

// errorFormat returns the format of an error that no route answers.
func (c *call) errorFormat() format {
	header, given := c.plugHeader("Accept")
	return accepts(header, given, htmlFormat, jsonFormat)
}
