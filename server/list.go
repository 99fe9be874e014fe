package server

import (
	"net/http"
	"slices"

	"github.com/sequin-go/sequin/server/internal/store"
)

// lister lists messages, or messages with their states.
type lister[T any] struct {
	list    func(store.ListQuery) ([]T, error)
	message func(*T) *store.Message
	encode  func(*encoder, *T)
}

// answerList answers a list of messages. The store returns large lists in pages of bounded size. Each page but the last is
// sent before the next one is read, so that a list takes no more memory than a page. Messages that are stored or replaced
// meanwhile may be in the answer or not.
func answerList[T any](c *call, q store.ListQuery, l lister[T]) error {
	if err := c.checkRoom(); err != nil {
		return err
	}
	buf := getBuffer()
	defer putBuffer(buf)
	e := encoder{buf: append((*buf)[:0], `{"data":[`...)}
	for begun := false; ; begun = true {
		page, err := l.list(q)
		if err != nil && begun {
			c.srv.log.Warn("a list was cut off", "path", c.r.URL.Path, "error", err)
			panic(http.ErrAbortHandler) // the status has been sent, so that only the missing end tells the client
		}
		if err != nil {
			return err
		}
		size := l.append(&e, page, begun)
		*buf = e.buf
		c.holdAnswer(len(e.buf))
		q.Limit -= len(page)
		if size < store.MaxAnswerBytes || q.Limit <= 0 {
			break
		}
		if c.sendPart(e.buf) != nil {
			return nil // the client is gone
		}
		e.buf = e.buf[:0]
		q = q.Next(l.message(&page[len(page)-1]).Seq)
	}
	e.raw("]}")
	*buf = e.buf
	c.sendEnd(e.buf)
	return nil
}

// append encodes a page and returns the size of its keys and data.
func (l lister[T]) append(e *encoder, page []T, begun bool) (size int) {
	estimate := 0
	for i := range page {
		estimate += sizeOf(l.message(&page[i]))
	}
	e.buf = slices.Grow(e.buf, estimate)
	for i := range page {
		if i > 0 || begun {
			e.raw(",")
		}
		l.encode(e, &page[i])
		m := l.message(&page[i])
		size += int(m.Size())
	}
	return size
}
