package server

import (
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// readStart reads the start_from of a new consumer of a stream. The extension is announced for stores whose streams have times.
func (c *call) readStart(s store.Stream, v any) (seq int64, err error) {
	switch v {
	case nil, "beginning":
		return 0, nil
	case "end":
		return store.StartAtEnd, nil
	}
	if n, ok := integer(v); ok && n >= 0 {
		return n, nil
	}
	text, _ := v.(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, refusedField("start_from", "must be \"beginning\", \"end\", a seq, or an RFC 3339 time")
	}
	return s.(store.ExtendedStream).SeqAt(c.ctx(), at)
}
