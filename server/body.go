package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// maxBody is the largest body that the recorded server took: 7.9 MB passed, 8.1 MB did not, its framework's default
	// lies between.
	maxBody = 8_000_000
	// bodyTimeout is how long a body may take to arrive, so that a client that trickles ties nothing up for long; the
	// largest body needs 135 kB/s.
	bodyTimeout = time.Minute
	// maxPooled keeps the buffers of rare large answers out of the pool. It holds 1,000 messages of 10 KiB, and any body.
	maxPooled = 16 << 20
	// firstRead is what is allocated for a body before any of it has come: a declared length is only a claim.
	firstRead = 64 << 10
)

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// mediaType is what a body is read as.
type mediaType uint8

const (
	otherMedia mediaType = iota // not read at all
	jsonMedia
	formMedia
)

func (c *call) mediaType() mediaType {
	header := c.r.Header.Get("Content-Type")
	if header == "application/json" {
		return jsonMedia
	}
	t, _, err := mime.ParseMediaType(header)
	switch {
	case err != nil:
		return otherMedia
	case t == "application/json", strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json"):
		return jsonMedia
	case t == "application/x-www-form-urlencoded":
		return formMedia
	}
	return otherMedia
}

func (c *call) hasBody() bool {
	return c.r.Body != nil && c.r.Body != http.NoBody && c.r.ContentLength != 0
}

// setBodyDeadline limits the time for the body. It is set for every request that has one, read or not: what a handler
// leaves unread net/http reads after it. Writers without deadlines have their own protection or none to offer.
func (c *call) setBodyDeadline(t time.Time) {
	_ = http.NewResponseController(c.w).SetReadDeadline(t)
}

// readBody reads the body into a buffer from the pool, which the caller puts back.
func (c *call) readBody() (*[]byte, error) {
	buf := getBuffer()
	if !c.hasBody() {
		return buf, nil
	}
	if c.r.ContentLength > maxBody {
		return buf, errTooLarge
	}
	if want := int(min(max(c.r.ContentLength, 512), firstRead)); cap(*buf) < want {
		*buf = make([]byte, 0, want)
	}
	for {
		if len(*buf) == cap(*buf) {
			*buf = append(*buf, 0)[:len(*buf)]
		}
		n, err := c.r.Body.Read((*buf)[len(*buf):cap(*buf)])
		*buf = (*buf)[:len(*buf)+n]
		switch {
		case len(*buf) > maxBody:
			return buf, errTooLarge
		case err == io.EOF:
			c.setBodyDeadline(time.Time{})
			return buf, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return buf, errSlowBody
		case err != nil:
			return buf, errMalformed // cut off in the middle: nobody may be there to read this
		}
	}
}

// params are what a request says outside its path: the query, overlaid by the members of a JSON object or of a form.
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

func (p params) addValues(values url.Values) {
	for name, list := range values {
		p[name] = list[len(list)-1]
	}
}

// addJSON adds the members of an object. Another kind of value is no error, it just has no members.
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
