package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/sequin-go/sequin/server/internal/store"
)

const jsonType = "application/json; charset=utf-8"

// failure is an answer that is not 200.
type failure struct {
	status  int
	summary string
	invalid map[string][]string // validation_errors of a 422
	detail  string              // instead of a summary: what the framework of the 2024 server says, not its API
	plain   bool                // the detail goes as plain text, unless the client accepts JSON
	noID    bool                // refused before the request had an id
	hangUp  bool
}

func (f *failure) Error() string { return strconv.Itoa(f.status) + " " + f.summary + f.detail }

var (
	errNoRoute      = &failure{status: http.StatusNotFound, detail: "Not Found", plain: true}
	errMalformed    = &failure{status: http.StatusBadRequest, detail: "Bad Request", plain: true, noID: true}
	errTooLarge     = &failure{status: http.StatusRequestEntityTooLarge, detail: "Request Entity Too Large", plain: true, noID: true, hangUp: true}
	errSlowBody     = &failure{status: http.StatusRequestTimeout, detail: "Request Timeout", plain: true, hangUp: true}
	errCrash        = &failure{status: http.StatusInternalServerError, detail: "Internal Server Error"}
	errBadCast      = &failure{status: http.StatusBadRequest, detail: "Bad Request"}
	errClosed       = &failure{status: http.StatusServiceUnavailable, summary: "Server is closed"}
	errUnauthorized = &failure{status: http.StatusUnauthorized, summary: "Unauthorized: send the server's token as `Authorization: Bearer TOKEN`"}
	errNoStream     = &failure{status: http.StatusNotFound, summary: "Not found: No `stream` found matching the provided ID or name"}
	errNoConsumer   = &failure{status: http.StatusNotFound, summary: "Not found: No `consumer` found matching the provided ID or name"}
	errNoMessage    = &failure{status: http.StatusNotFound, summary: "Not found: No `message` found matching the provided key"}
	errFull         = &failure{status: http.StatusConflict, summary: "Stream is full: the messages do not fit within `max_storage_gb`, and `retain_at_least` keeps the ones it has. Nothing was stored"}
)

func badRequest(format string, args ...any) *failure {
	return &failure{status: http.StatusBadRequest, summary: fmt.Sprintf(format, args...)}
}

func invalid(errors map[string][]string) *failure {
	return &failure{status: http.StatusUnprocessableEntity, summary: "Validation failed", invalid: errors}
}

func invalidField(field, text string) *failure { return invalid(map[string][]string{field: {text}}) }

// finish answers what a handler could not.
func (c *call) finish(err error) {
	if err == nil {
		return
	}
	var f *failure
	switch {
	case errors.As(err, &f):
	case errors.Is(err, store.ErrNoStream):
		f = errNoStream
	case errors.Is(err, store.ErrNoConsumer):
		f = errNoConsumer
	case errors.Is(err, store.ErrNoMessage):
		f = errNoMessage
	case errors.Is(err, store.ErrFull):
		f = errFull
	case errors.Is(err, store.ErrClosed):
		f = errClosed
	default:
		// What the 2024 server crashes on (ErrDoubledKey, ErrNameCase, ErrAmbiguous); no other store answers it.
		f = errCrash
	}
	c.fail(f)
}

func (c *call) fail(f *failure) {
	h := c.w.Header()
	if f.noID {
		h.Del("X-Request-Id")
	}
	if f.hangUp {
		h.Set("Connection", "close")
	}
	if f.plain && !strings.Contains(c.r.Header.Get("Accept"), "application/json") {
		h.Set("Content-Type", "text/html; charset=utf-8")
		_ = c.write(f.status, []byte(f.detail))
		return
	}
	if f.detail != "" {
		c.json(f.status, map[string]any{"errors": map[string]string{"detail": f.detail}})
		return
	}
	c.json(f.status, struct {
		Summary string              `json:"summary"`
		Invalid map[string][]string `json:"validation_errors,omitempty"`
	}{f.summary, f.invalid})
}

// ok answers 200 with v.
func (c *call) ok(v any) error {
	c.json(http.StatusOK, v)
	return nil
}

func (c *call) json(status int, v any) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // patterns are full of ">"
	if err := e.Encode(v); err != nil {
		panic(err) // every v is a value of this package's
	}
	c.w.Header().Set("Content-Type", jsonType)
	_ = c.write(status, bytes.TrimSuffix(body.Bytes(), []byte("\n")))
}

// write sends the answer. Only a receive wants to know whether it went out; for the others the client asks again.
func (c *call) write(status int, body []byte) error {
	h := c.w.Header()
	h.Set("Cache-Control", "max-age=0, private, must-revalidate")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	_, err := c.w.Write(body)
	return err
}

// list is how every list is wrapped.
type list[T any] struct {
	Data []T `json:"data"`
}
