package server

import (
	"context"
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

	streaming bool // the head of an answer has been sent by sendPart
	answered  RequestInfo

	rights Rights // of the token

	held          int64 // bytes of the body, of those in flight
	heldForSettle int64 // bytes of the body of an ack or nack, of those that only these may take
	answer        int64 // bytes of the answer, of those in flight

	ending <-chan struct{} // closed when a receive that waits is to end; nil for never

	stream, consumer, key string // elements of the path, unescaped

	plug plugged // in the 2024 server's dialect, and for calls of sinks
}

// ctx ends when the client is gone.
func (c *call) ctx() context.Context { return c.r.Context() }

// storing is the ctx of a change that has to take place although the client may be gone: a lease that began is then ended
// by a second change.
func (c *call) storing() context.Context { return context.WithoutCancel(c.ctx()) }

// findStream finds the stream of the path.
func (c *call) findStream() (store.Stream, error) {
	ref, err := c.srv.dialect.ref(c.stream)
	if err != nil {
		return nil, err
	}
	return c.srv.store.Stream(c.ctx(), ref)
}

// findConsumer finds the consumer of the path in the stream of the path.
func (c *call) findConsumer() (store.Consumer, error) {
	s, err := c.findStream()
	if err != nil {
		return nil, err
	}
	return c.findConsumerIn(s)
}

// findConsumerIn finds the consumer of the path in a stream.
func (c *call) findConsumerIn(s store.Stream) (store.Consumer, error) {
	ref, err := c.srv.dialect.ref(c.consumer)
	if err != nil {
		return nil, err
	}
	return s.Consumer(c.ctx(), ref)
}

// findReceiver finds the consumer of a receive, an ack or a nack.
func (c *call) findReceiver() (store.Consumer, error) {
	ref, err := c.srv.dialect.ref(c.consumer)
	if err != nil {
		return nil, err
	}
	return c.srv.dialect.findConsumer(c.ctx(), c.srv.store, c.stream, ref)
}

func anyRef(ref string) (string, error) { return ref, nil }

func anyText(string) error { return nil }
