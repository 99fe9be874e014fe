package server

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
)

// call is one request on its way to an answer.
type call struct {
	*Server
	w       http.ResponseWriter
	r       *http.Request
	arrived time.Time

	stream, consumer, key string // elements of the path, unescaped
}

// ServeHTTP answers every route of the API; a handler that panics answers 500 and is logged.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Server: s, w: w, r: r, arrived: time.Now()}
	defer c.recover()
	id := r.Header.Get("X-Request-Id")
	// The lengths are those that the 2024 server takes a request's own id in.
	if len(id) < 20 || len(id) > 200 {
		id = uuid.NewString()
	}
	w.Header().Set("X-Request-Id", id)
	if c.hasBody() {
		c.setBodyDeadline(c.arrived.Add(bodyTimeout))
	}
	switch {
	case s.closed.Load():
		c.fail(errClosed)
	case !s.authorized(r):
		c.fail(errUnauthorized)
	default:
		c.finish(c.route())
	}
}

func (c *call) recover() {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	c.log.Error("handler panicked", "method", c.r.Method, "path", c.r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	c.fail(errCrash)
}

func (s *Server) authorized(r *http.Request) bool {
	if s.token == "" {
		return true
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1
}

// route finds the handler by the path's shape and runs it.
func (c *call) route() error {
	path, ok := split(c.r.URL.EscapedPath())
	if !ok || len(path) < 2 || path[0] != "api" || path[1] != "streams" {
		return errNoRoute
	}
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	path = path[2:]
	if len(path) > 0 {
		c.stream = path[0]
	}
	switch {
	case len(path) == 0:
		return c.routeStreams(method)
	case len(path) == 1:
		return c.routeStream(method)
	case path[1] == "messages":
		return c.routeMessages(method, path[2:])
	case path[1] == "consumers":
		return c.routeConsumers(method, path[2:])
	}
	return errNoRoute
}

func (c *call) routeStreams(method string) error {
	switch method {
	case http.MethodGet:
		return c.listStreams()
	case http.MethodPost:
		return c.createStream()
	}
	return errNoRoute
}

func (c *call) routeStream(method string) error {
	switch method {
	case http.MethodGet:
		return c.getStream()
	case http.MethodDelete:
		return c.deleteStream()
	case http.MethodPut, http.MethodPatch:
		if c.compat == Aug2024 {
			return errCrash // its router knows the route, its controller does not
		}
	}
	return errNoRoute
}

func (c *call) routeMessages(method string, path []string) error {
	if len(path) > 0 {
		c.key = path[0]
	}
	switch {
	case len(path) == 0 && method == http.MethodPost:
		return c.send()
	case len(path) == 0 && method == http.MethodGet:
		return c.listMessages()
	case len(path) == 1 && method == http.MethodGet:
		return c.getMessage()
	case len(path) == 2 && path[1] == "consumer_info" && method == http.MethodGet:
		return c.messageInfo()
	}
	return errNoRoute
}

func (c *call) routeConsumers(method string, path []string) error {
	if len(path) > 0 {
		c.consumer = path[0]
	}
	switch {
	case len(path) == 0:
		return c.routeConsumerList(method)
	case len(path) == 1:
		return c.routeConsumer(method)
	case len(path) > 2:
		return errNoRoute
	}
	switch path[1] + " " + method {
	case "receive POST", "receive GET":
		return c.receive()
	case "ack POST":
		return c.ack()
	case "nack POST":
		return c.nack()
	case "messages GET":
		return c.peek()
	}
	return errNoRoute
}

func (c *call) routeConsumerList(method string) error {
	switch method {
	case http.MethodGet:
		return c.listConsumers()
	case http.MethodPost:
		return c.createConsumer()
	}
	return errNoRoute
}

func (c *call) routeConsumer(method string) error {
	switch method {
	case http.MethodGet:
		return c.getConsumer()
	case http.MethodPut, http.MethodPatch:
		return c.updateConsumer()
	case http.MethodDelete:
		return c.deleteConsumer()
	}
	return errNoRoute
}

// split cuts a path into its elements and unescapes each, so that an escaped slash stays within its element. Empty
// elements do not count.
func split(path string) (elements []string, ok bool) {
	elements = make([]string, 0, 6)
	for element := range strings.SplitSeq(path, "/") {
		if element == "" {
			continue
		}
		element, err := url.PathUnescape(element)
		if err != nil {
			return nil, false
		}
		elements = append(elements, element)
	}
	return elements, true
}
