package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// route finds the handler of the request and runs it. This switch lists every route of streams, and
// sinkShapes those of sinks; a "*" is a name or an id. It is a switch and not a table of functions because a call through a
// function value would allocate the call on the heap.
func (c *call) route() error {
	var buf [128]byte
	shape := c.appendShape(buf[:0])
	if err := c.enter(shape); err != nil {
		return err
	}
	switch string(shape) {
	case homeShape:
		if c.srv.dialect.plug {
			return c.homePage()
		}

	case "GET api/streams":
		return c.listStreams()
	case "POST api/streams":
		return c.createStream()
	case "GET api/streams/*":
		return c.getStream()
	case "PUT api/streams/*", "PATCH api/streams/*":
		return c.updateStream()
	case "DELETE api/streams/*":
		return c.deleteStream()

	case "POST api/streams/*/messages":
		return c.send()
	case "GET api/streams/*/messages":
		return c.listMessages()
	case "GET api/streams/*/messages/*":
		return c.getMessage()
	case "GET api/streams/*/messages/*/consumer_info":
		return c.messageInfo()

	case "GET api/streams/*/consumers":
		return c.listConsumers()
	case "POST api/streams/*/consumers":
		return c.createConsumer()
	case "GET api/streams/*/consumers/*":
		return c.getConsumer()
	case "PUT api/streams/*/consumers/*", "PATCH api/streams/*/consumers/*":
		return c.updateConsumer()
	case "DELETE api/streams/*/consumers/*":
		return c.deleteConsumer()

	case "GET api/streams/*/consumers/*/receive", "POST api/streams/*/consumers/*/receive":
		return c.receive()
	case "POST api/streams/*/consumers/*/ack":
		return c.ack()
	case "POST api/streams/*/consumers/*/nack":
		return c.nack()
	case "POST api/streams/*/consumers/*/extend":
		return c.extend()
	case "GET api/streams/*/consumers/*/messages":
		return c.peek()
	}
	if slices.Contains(sinkShapes, string(shape)) && c.isSinkCall() {
		return c.routeSink(string(shape))
	}
	c.answered.Route = otherRoute
	return c.noRoute()
}

// enter refuses a request before its handler runs.
func (c *call) enter(shape []byte) error {
	if c.srv.dialect.plug && !c.acceptable() && isRoute(string(shape)) {
		return errUnacceptable
	}
	c.setRoute(shape)
	return c.mayNot(shape)
}

// The indexes of the elements of a path that are names or ids.
const (
	streamElement        = 2
	consumerOrKeyElement = 4
	maxElements          = 6 // in the longest path
)

// appendShape appends the method and the path, with a "*" for each name or id, which it stores in c. It appends nothing
// for a path that no route has. A HEAD is treated as a GET.
func (c *call) appendShape(dst []byte) []byte {
	path, ok := split(c.r.URL.EscapedPath())
	if !ok || len(path) > maxElements || c.srv.sinksOnly && belowStreams(c.r.URL.Path) {
		return nil
	}
	method := c.method()
	dst = append(append(dst, method...), ' ')
	for i, element := range path {
		if i > 0 {
			dst = append(dst, '/')
		}
		switch i {
		case streamElement:
			c.stream, element = element, "*"
		case consumerOrKeyElement:
			c.consumer, c.key, element = element, element, "*"
		}
		if strings.Contains(element, "/") {
			return nil // an escaped slash, which must not look like two elements
		}
		dst = append(dst, element...)
	}
	return dst
}

// method returns the method of the request. A HEAD is treated as a GET.
func (c *call) method() string {
	switch {
	case c.plug.method != "":
		return c.plug.method
	case c.r.Method == http.MethodHead:
		return http.MethodGet
	}
	return c.r.Method
}

// split splits a path into its elements and unescapes each of them, so that an escaped slash stays in its element. It
// skips empty elements.
func split(path string) (elements []string, ok bool) {
	elements = make([]string, 0, maxElements)
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
