package sequin

import (
	"net/http"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// What the tests of the wire see of the inside.
var (
	CheckPattern = checkPattern
	RetryAfter   = retryAfter
)

// CheckKey reports the first rule that a key breaks.
func CheckKey(key string) error {
	_, err := checkKey(key)
	return err
}

// SetMaxResponse makes the cap of an answer testable with small answers.
func (c *Client) SetMaxResponse(bytes int64) { c.maxResponse = bytes }

// EncodeSend is the body of a send, with the size that was foretold.
func EncodeSend(messages []Message) (body []byte, foretold int, err error) {
	foretold, err = checkBatch(messages)
	if err != nil {
		return nil, 0, err
	}
	body = wire.AppendSendHead(nil)
	for _, m := range messages {
		body = wire.AppendMessage(body, m.Key, m.Data)
	}
	return wire.AppendSendTail(body), foretold, nil
}

// Wait is the pause after the n-th failure in a row.
func (r RetryConfig) Wait(n int, cause error) (time.Duration, error) {
	r = r.withDefaults()
	return r.wait(n, cause), r.validate()
}

// IdleConnsPerHost is how many idle connections the Client's own transport keeps.
func (c *Client) IdleConnsPerHost() int {
	return c.http.Transport.(*http.Transport).MaxIdleConnsPerHost
}
