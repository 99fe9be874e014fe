package server

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// defaultRequestBytes is the size of the largest body, the default of the 2024 server's web framework. It was recorded
	// to accept 7.9 MB and to refuse 8.1 MB.
	defaultRequestBytes = 8_000_000
	// bodyTimeout is how long a body may take to arrive, so that a slow client does not keep a connection for long. The
	// largest body needs 135 kB/s.
	bodyTimeout = time.Minute
	// firstRead limits what is allocated before any of the body has arrived, because a declared length may be wrong.
	firstRead = 64 << 10
)

// mediaType says how a body is read.
type mediaType uint8

const (
	otherMedia mediaType = iota // the body is not read
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

// setBodyDeadline limits the time for the body. It is set for every request with a body, because net/http reads what a
// handler leaves unread. A ResponseWriter without deadlines is ignored: its connection is limited elsewhere, or cannot be.
func (c *call) setBodyDeadline(t time.Time) {
	_ = http.NewResponseController(c.w).SetReadDeadline(t)
}

// jsonBody reads the body of a request that takes JSON only, into a buffer that the caller returns to the pool. A body of
// another type is read as an empty one.
func (c *call) jsonBody() (*[]byte, error) {
	switch c.mediaType() {
	case jsonMedia:
		return c.readBody()
	case formMedia:
		buf, err := c.readBody()
		*buf = (*buf)[:0]
		return buf, err
	}
	return getBuffer(), nil
}

// readBody reads the body into a buffer that the caller returns to the pool, also when there is an error.
func (c *call) readBody() (*[]byte, error) {
	buf := getBuffer()
	if !c.hasBody() {
		return buf, nil
	}
	if c.r.ContentLength > int64(c.srv.limits.RequestBytes) {
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
		if len(*buf) > c.srv.limits.RequestBytes {
			return buf, errTooLarge
		}
		if err := c.hold(len(*buf)); err != nil {
			return buf, err
		}
		switch {
		case err == io.EOF:
			c.setBodyDeadline(time.Time{})
			return buf, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return buf, errSlowBody
		case err != nil:
			return buf, errMalformed // the body ended too soon; the client is probably gone
		}
	}
}
