package server

import (
	"net/http"
	"net/url"
	"strings"
)

// routes lists every route. A HEAD is treated as a GET.
var routes = []route{
	{"GET", "api/streams", (*call).listStreams},
	{"POST", "api/streams", (*call).createStream},
	{"GET", "api/streams/{stream}", (*call).getStream},
	{"PUT", "api/streams/{stream}", (*call).updateStream},
	{"PATCH", "api/streams/{stream}", (*call).updateStream},
	{"DELETE", "api/streams/{stream}", (*call).deleteStream},

	{"POST", "api/streams/{stream}/messages", (*call).send},
	{"GET", "api/streams/{stream}/messages", (*call).listMessages},
	{"GET", "api/streams/{stream}/messages/{key}", (*call).getMessage},
	{"GET", "api/streams/{stream}/messages/{key}/consumer_info", (*call).messageInfo},

	{"GET", "api/streams/{stream}/consumers", (*call).listConsumers},
	{"POST", "api/streams/{stream}/consumers", (*call).createConsumer},
	{"GET", "api/streams/{stream}/consumers/{consumer}", (*call).getConsumer},
	{"PUT", "api/streams/{stream}/consumers/{consumer}", (*call).updateConsumer},
	{"PATCH", "api/streams/{stream}/consumers/{consumer}", (*call).updateConsumer},
	{"DELETE", "api/streams/{stream}/consumers/{consumer}", (*call).deleteConsumer},

	{"GET", "api/streams/{stream}/consumers/{consumer}/receive", (*call).receive},
	{"POST", "api/streams/{stream}/consumers/{consumer}/receive", (*call).receive},
	{"POST", "api/streams/{stream}/consumers/{consumer}/ack", (*call).ack},
	{"POST", "api/streams/{stream}/consumers/{consumer}/nack", (*call).nack},
	{"GET", "api/streams/{stream}/consumers/{consumer}/messages", (*call).peek},
}

type route struct {
	method, path string
	handle       func(*call) error
}

// splitRoute is a route with the elements of its path.
type splitRoute struct {
	route
	elements []string
}

// routesByLength has the routes by the number of their elements, so that a request is compared with few of them.
var routesByLength = func() (all [maxElements + 1][]splitRoute) {
	for _, r := range routes {
		elements := strings.Split(r.path, "/")
		all[len(elements)] = append(all[len(elements)], splitRoute{r, elements})
	}
	return all
}()

// maxElements is the number of elements of the longest path.
const maxElements = 6

// route finds the handler and runs it.
func (c *call) route() error {
	path, ok := split(c.r.URL.EscapedPath())
	if !ok || len(path) > maxElements {
		return errNoRoute
	}
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	all := routesByLength[len(path)]
	for i := range all {
		if r := &all[i]; r.method == method && r.matches(path) {
			c.setElements(r.elements, path)
			return r.handle(c)
		}
	}
	return errNoRoute
}

func (r *splitRoute) matches(path []string) bool {
	for i, want := range r.elements {
		if want != path[i] && want[0] != '{' {
			return false
		}
	}
	return true
}

func (c *call) setElements(elements, path []string) {
	for i, name := range elements {
		switch name {
		case "{stream}":
			c.stream = path[i]
		case "{consumer}":
			c.consumer = path[i]
		case "{key}":
			c.key = path[i]
		}
	}
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
