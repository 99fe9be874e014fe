package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
)

// ErrTooLong means that an answer is longer than the limit given to ReadAnswer.
var ErrTooLong = errors.New("answer too long")

// answers keeps the buffers of answers for reuse.
var answers = sync.Pool{New: func() any { return new(Answer) }}

// Answer is the body of a response in memory. Release it when its bytes are no longer used.
type Answer struct{ buf bytes.Buffer }

// ReadAnswer reads the body of resp up to limit bytes. The Answer holds what was read, also when an error is returned:
// ErrTooLong, or the connection's error.
func ReadAnswer(resp *http.Response, limit int64) (*Answer, error) {
	a := answers.Get().(*Answer)
	if n := resp.ContentLength; n > 0 && n <= limit {
		a.buf.Grow(int(n) + bytes.MinRead) // ReadFrom needs MinRead bytes of room to see the end
	}
	n, err := a.buf.ReadFrom(io.LimitReader(resp.Body, limit+1))
	if n > limit {
		a.buf.Truncate(int(limit))
		return a, ErrTooLong
	}
	return a, err
}

// Bytes returns the body. It is valid until Release.
func (a *Answer) Bytes() []byte { return a.buf.Bytes() }

// Release returns the memory of a. A buffer larger than maxPooled is left to the garbage collector, so that one large
// answer does not stay in memory.
func (a *Answer) Release() {
	if a.buf.Cap() <= maxPooled {
		a.buf.Reset()
		answers.Put(a)
	}
}
