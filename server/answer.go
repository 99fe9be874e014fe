package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	jsonType     = "application/json; charset=utf-8"
	cacheControl = "max-age=0, private, must-revalidate"
)

// fail writes an answer that is not 200.
func (c *call) fail(f *failure) {
	h := c.w.Header()
	if f.noID {
		h.Del("X-Request-Id")
	}
	if f.hangUp {
		h.Set("Connection", "close")
	}
	if f.retryAfter != "" {
		h.Set("Retry-After", f.retryAfter)
	}
	if c.srv.dialect.plug {
		defer c.hangUpLike2024(f)
	}
	if f.plain && !c.wantsJSONError() {
		h.Set("Content-Type", "text/html; charset=utf-8")
		_ = c.write(f.status, []byte(f.detail))
		return
	}
	if f.detail != "" {
		c.json(f.status, map[string]any{"errors": map[string]string{"detail": f.detail}})
		return
	}
	summary := f.summary
	if (f.status == http.StatusBadRequest || f.status == http.StatusUnprocessableEntity) && !c.isSinkCall() && c.leavesBody() {
		summary += unread
	}
	c.json(f.status, struct {
		Summary string      `json:"summary"`
		Invalid fieldErrors `json:"validation_errors,omitempty"`
		Outcome string      `json:"outcome,omitempty"`
	}{summary, f.invalid, f.outcome()})
}

// wantsJSONError reports whether an error without a summary is sent as JSON.
func (c *call) wantsJSONError() bool {
	if c.srv.dialect.plug {
		return c.errorFormat() == jsonFormat
	}
	return strings.Contains(c.r.Header.Get("Accept"), "application/json")
}

// ok answers 200 with v.
func (c *call) ok(v any) error {
	c.json(http.StatusOK, v)
	return nil
}

func (c *call) json(status int, v any) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // patterns contain ">"
	if err := e.Encode(v); err != nil {
		panic(err) // every v is of a type that can be encoded
	}
	c.w.Header().Set("Content-Type", jsonType)
	_ = c.write(status, bytes.TrimSuffix(body.Bytes(), []byte("\n")))
}

// encode answers 200 with what f writes.
func (c *call) encode(f func(*encoder)) error {
	buf := getBuffer()
	defer putBuffer(buf)
	e := encoder{buf: (*buf)[:0]}
	f(&e)
	*buf = e.buf
	c.w.Header().Set("Content-Type", jsonType)
	_ = c.write(http.StatusOK, *buf)
	return nil
}

// write sends the answer. Only a receive uses the error. The client of any other request repeats it when no answer comes.
func (c *call) write(status int, body []byte) error {
	h := c.w.Header()
	h.Set("Cache-Control", cacheControl)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.writeHead(status)
	return c.writeBody(body)
}

func (c *call) writeHead(status int) {
	if c.srv.drain.begun() {
		c.w.Header().Set("Connection", "close") // the next request of the client would be refused
	}
	c.answered.Status = status
	c.w.WriteHeader(status)
}

// smallAnswer is the size of an answer that the buffers of a connection hold, so that nobody waits for a slow client.
const smallAnswer = 64 << 10

// answerTimeout is how long the client may take to read an answer, or a part of a list. It is that of a body.
const answerTimeout = bodyTimeout

func (c *call) writeBody(body []byte) error {
	if len(body) > smallAnswer {
		// A ResponseWriter without deadlines is ignored, as in setBodyDeadline.
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(answerTimeout))
	}
	defer c.waited(time.Now())
	n, err := c.w.Write(body)
	c.answered.BytesOut += int64(n)
	return err
}

// flush sends what has been written. It waits for a slow client.
func (c *call) flush() error {
	defer c.waited(time.Now())
	return http.NewResponseController(c.w).Flush()
}

// sendPart sends a part of an answer of 200 whose length is not known yet.
func (c *call) sendPart(part []byte) error {
	if !c.streaming {
		c.streaming = true
		c.w.Header().Set("Content-Type", jsonType)
		c.w.Header().Set("Cache-Control", cacheControl)
		c.writeHead(http.StatusOK)
	}
	if err := c.writeBody(part); err != nil {
		return err
	}
	if err := c.flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// sendEnd sends the last part of an answer of 200, which may be the only one.
func (c *call) sendEnd(part []byte) {
	if c.streaming {
		_ = c.sendPart(part)
		return
	}
	c.w.Header().Set("Content-Type", jsonType)
	_ = c.write(http.StatusOK, part)
}

// list is the JSON of every list.
type list[T any] struct {
	Data []T `json:"data"`
}
