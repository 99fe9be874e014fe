package server

import (
	"net/http"
	"net/url"
	"strings"
)

// route finds the handler of the request and runs it. It is a switch and not a column of functions in the table because a call
// through a function value would allocate the call on the heap.
func (c *call) route() error {
	if c.isSinkCall() {
		return c.routeSink()
	}
	f := c.find()
	if err := c.enter(f); err != nil {
		return err
	}
	switch f.op {
	case opHomePage:
		if c.srv.dialect.plug {
			return c.homePage()
		}
	case opListStreams:
		return c.listStreams()
	case opCreateStream:
		return c.createStream()
	case opGetStream:
		return c.getStream()
	case opUpdateStream:
		return c.updateStream()
	case opDeleteStream:
		return c.deleteStream()
	case opPurge:
		return c.purge()
	case opSend:
		return c.send()
	case opListMessages:
		return c.listMessages()
	case opGetMessage:
		return c.getMessage()
	case opMessageInfo:
		return c.messageInfo()
	case opListConsumers:
		return c.listConsumers()
	case opCreateConsumer:
		return c.createConsumer()
	case opGetConsumer:
		return c.getConsumer()
	case opUpdateConsumer:
		return c.updateConsumer()
	case opDeleteConsumer:
		return c.deleteConsumer()

	case opReceive:
		return c.receive()
	case opAck:
		return c.ack()
	case opNack:
		return c.nack()
	case opExtend:
		return c.extend()
	case opEndReceive:
		return c.endReceive()
	case opPeek:
		return c.peek()
	}
	c.answered.Route = otherRoute
	return c.noRoute()
}

// enter refuses a request before its handler runs.
func (c *call) enter(f found) error {
	if c.srv.dialect.plug && !c.acceptable() && f.op != noOperation && f.api == streamsAPI {
		return errUnacceptable
	}
	c.answered.Route = f.shape
	return c.needs(f.needs)
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
