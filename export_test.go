package sequin

import (
	"net/http"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// What the external tests need of the package.
var (
	CheckPattern = checkPattern
	RetryAfter   = retryAfter
)

// CheckKey returns the error of a key.
func CheckKey(key string) error {
	_, err := checkKey(key)
	return err
}

// SetMaxResponse sets the limit of an answer, so that it can be tested with small answers.
func (c *Client) SetMaxResponse(bytes int64) { c.maxResponse = bytes }

// EncodeSend returns the body of a send, and the size that checkBatch computed for it.
func EncodeSend(messages []Message) (body []byte, computed int, err error) {
	computed, _, err = checkBatch(messages)
	if err != nil {
		return nil, 0, err
	}
	body = wire.AppendSendHead(nil)
	for _, m := range messages {
		body = wire.AppendMessage(body, m.Key, m.Data, m.Headers, 0)
	}
	return wire.AppendSendTail(body), computed, nil
}

// Wait returns the wait after the n-th failure in a row, and the error of the config.
func (r RetryConfig) Wait(n int, cause error) (time.Duration, error) {
	r = r.withDefaults()
	return r.wait(n, cause), r.validate()
}

// IdleConnsPerHost returns how many idle connections the Client's own transport keeps.
func (c *Client) IdleConnsPerHost() int {
	return c.http.Transport.(*http.Transport).MaxIdleConnsPerHost
}
