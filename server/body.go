package server

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
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
	// maxDiscarded is how much of a body that is too large is read and dropped. A client that writes the whole body before it
	// reads the answer would otherwise get a reset instead of the answer.
	maxDiscarded = 100_000_000
)

// mediaType says how a body is read.
type mediaType uint8

const (
	otherMedia mediaType = iota // the body is not read
	noMedia                     // there should be no body
	jsonMedia
	formMedia
)

func (c *call) mediaType() mediaType {
	header := c.r.Header.Get("Content-Type")
	if header == "application/json" {
		return jsonMedia
	}
	if header == "" {
		return noMedia
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

// leavesBody reports whether the documented server does not read the body because of its type.
func (c *call) leavesBody() bool {
	return !c.srv.dialect.plug && c.hasBody() && c.mediaType() == otherMedia
}

// setBodyDeadline limits the time for the body. It is set for every request with a body, because net/http reads what a
// handler leaves unread. A ResponseWriter without deadlines is ignored: its connection is limited elsewhere, or cannot be.
func (c *call) setBodyDeadline(t time.Time) {
	_ = http.NewResponseController(c.w).SetReadDeadline(t)
}

// jsonBody reads the body of a request that takes JSON only, into a buffer that the caller returns to the pool. A body of
// another type is read as an empty one.
func (c *call) jsonBody() (*[]byte, error) {
	if c.srv.dialect.plug {
		return c.takePlugBody(), nil
	}
	media := c.mediaType()
	if media == otherMedia {
		return getBuffer(), nil
	}
	buf, err := c.readBody(c.srv.limits.RequestBytes)
	if media != jsonMedia {
		if media == noMedia && len(*buf) > 0 && err == nil {
			err = errUntyped
		}
		*buf = (*buf)[:0]
	}
	return buf, err
}

// malformed returns what a body that is not JSON is refused with.
func (c *call) malformed(body []byte) error {
	switch {
	case c.srv.dialect.plug:
	case bytes.HasPrefix(body, []byte("\x1f\x8b")), c.r.Header.Get("Content-Encoding") != "":
		return errEncoded
	case bytes.HasPrefix(body, []byte("\ufeff")):
		return errBOM
	}
	return errMalformed
}

// tooLarge returns what a body that is too large is refused with, after the rest of the body. A client that waits for
// 100 Continue has not sent any of it.
func (c *call) tooLarge(limit int) error {
	if c.srv.dialect.plug {
		return errPlugTooLarge
	}
	if c.r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, c.r.Body, maxDiscarded) // fails when the client is gone or slow
	}
	if c.isSinkCall() {
		return errPlugTooLarge
	}
	return errTooLarge(limit)
}

// readBody reads the body into a buffer that the caller returns to the pool, also when there is an error. limit is the
// largest size.
func (c *call) readBody(limit int) (*[]byte, error) {
	buf := getBuffer()
	if !c.hasBody() {
		return buf, nil
	}
	defer c.waited(time.Now())
	if c.r.ContentLength > int64(limit) && !c.srv.dialect.plug {
		return buf, c.tooLarge(limit)
	}
	if want := int(min(max(c.r.ContentLength, 512), firstRead)); cap(*buf) < want {
		*buf = make([]byte, 0, want)
	}
	for {
		if len(*buf) == cap(*buf) {
			// At least doubled: append would grow a large buffer by a quarter, and copy a body several times.
			*buf = slices.Grow(*buf, len(*buf)+1)
		}
		n, err := c.r.Body.Read((*buf)[len(*buf):cap(*buf)])
		*buf = (*buf)[:len(*buf)+n]
		if len(*buf) > limit {
			return buf, c.tooLarge(limit)
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
