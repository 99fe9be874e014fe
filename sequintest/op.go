package sequintest

import (
	"net/http"
	"strings"
)

// Op is an operation of the API: one per route.
type Op uint8

const (
	Any Op = iota // in a Fault and in Count: every operation
	Send
	ListMessages
	GetMessage
	MessageInfo
	Receive
	PeekMessages
	Ack
	Nack
	CreateStream
	GetStream
	ListStreams
	DeleteStream
	CreateConsumer
	GetConsumer
	ListConsumers
	UpdateConsumer
	DeleteConsumer
	Other // no operation: a route or a method that the API does not have
	opCount
)

var opNames = [opCount]string{
	"Any", "Send", "ListMessages", "GetMessage", "MessageInfo", "Receive", "PeekMessages", "Ack", "Nack", "CreateStream",
	"GetStream", "ListStreams", "DeleteStream", "CreateConsumer", "GetConsumer", "ListConsumers", "UpdateConsumer",
	"DeleteConsumer", "Other",
}

// String returns the operation's name.
func (op Op) String() string {
	if op < opCount {
		return opNames[op]
	}
	return "unknown"
}

// routes maps method and path, its variable elements shown as *, to operations.
var routes = map[string]Op{
	"POST streams":                           CreateStream,
	"GET streams":                            ListStreams,
	"GET streams/*":                          GetStream,
	"DELETE streams/*":                       DeleteStream,
	"POST streams/*/messages":                Send,
	"GET streams/*/messages":                 ListMessages,
	"GET streams/*/messages/*":               GetMessage,
	"GET streams/*/messages/*/consumer_info": MessageInfo,
	"POST streams/*/consumers":               CreateConsumer,
	"GET streams/*/consumers":                ListConsumers,
	"GET streams/*/consumers/*":              GetConsumer,
	"PUT streams/*/consumers/*":              UpdateConsumer,
	"PATCH streams/*/consumers/*":            UpdateConsumer,
	"DELETE streams/*/consumers/*":           DeleteConsumer,
	"GET streams/*/consumers/*/messages":     PeekMessages,
	"GET streams/*/consumers/*/receive":      Receive,
	"POST streams/*/consumers/*/receive":     Receive,
	"POST streams/*/consumers/*/ack":         Ack,
	"POST streams/*/consumers/*/nack":        Nack,
}

// classify tells which operation a request is. It goes by the escaped path: a slash in a name is no separator.
func classify(r *http.Request) Op {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/api/")
	if !ok {
		return Other
	}
	elements := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for i := 1; i < len(elements); i += 2 {
		elements[i] = "*"
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if op, ok := routes[method+" "+strings.Join(elements, "/")]; ok {
		return op
	}
	return Other
}
