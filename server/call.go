package server

import (
	"net/http"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// call is one request. The handlers of the routes are its methods.
type call struct {
	srv     *Server
	w       http.ResponseWriter
	r       *http.Request
	arrived time.Time

	shutdown <-chan struct{} // closed when the http.Server of the request shuts down

	stream, consumer, key string // elements of the path, unescaped
}

// findStream finds the stream of the path.
func (c *call) findStream() (store.Stream, error) { return c.srv.store.Stream(c.stream) }

// findConsumer finds the consumer of the path in the stream of the path.
func (c *call) findConsumer() (store.Consumer, error) {
	return findInStream(c.srv.store, c.stream, c.consumer)
}

// findReceiver finds the consumer of a receive, an ack or a nack.
func (c *call) findReceiver() (store.Consumer, error) {
	return c.srv.dialect.findConsumer(c.srv.store, c.stream, c.consumer)
}
