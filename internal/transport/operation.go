package transport

import (
	"net/http"
	"net/url"
	"strings"
)

// verbs are the words for the methods of requests.
var verbs = map[string]string{http.MethodGet: "get ", http.MethodPost: "create ", http.MethodPut: "update ", http.MethodDelete: "delete "}

// Operation returns the operation of a request, and the stream and the consumer in its path.
func Operation(method, path string) (op, stream, consumer string) {
	elements := strings.Split(strings.TrimPrefix(path, "/api/"), "/")
	for i, e := range elements {
		elements[i], _ = url.PathUnescape(e) // cannot fail: the caller has escaped them
	}
	element := func(i int) string {
		if i < len(elements) {
			return elements[i]
		}
		return ""
	}
	n, last := len(elements), elements[len(elements)-1]
	kind := elements[(n-1)&^1] // the collection: that of the last element, or the last element itself
	if elements[0] != "streams" {
		stream, consumer = "", element(1)
	} else if stream = element(1); element(2) == "consumers" {
		consumer = element(3)
	}
	switch {
	case n == 5 && last == "messages":
		op = "peek"
	case n == 5 && last == "consumer_info":
		op = "get message"
	case n == 5, n == 3 && elements[0] != "streams":
		op = strings.ReplaceAll(last, "_", " ") // receive, ack, nack, extend, end receive
	case n == 3 && last == "purge":
		op = "purge stream"
	case n == 3 && last == "messages" && method == http.MethodPost:
		op = "send"
	case n%2 == 1 && method == http.MethodGet:
		op = "list " + last
	default:
		op = verbs[method] + strings.TrimSuffix(kind, "s")
	}
	return op, stream, consumer
}
