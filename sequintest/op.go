package sequintest

import (
	"net/http"
	"strings"
)

// Op is an operation of the API.
type Op uint8

// The operations. Each is the name of the method of sequin.Client that makes such requests, or of several, but for Any, Other, and
// EndReceive, with which a Subscriber that stops ends a receive that waits at the server.
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
	Extend
	EndReceive
	CreateStream
	GetStream
	ListStreams
	DeleteStream
	PurgeStream
	CreateConsumer
	GetConsumer
	ListConsumers
	UpdateConsumer
	DeleteConsumer
	GetSink
	Other // a route or a method that the API does not have
	opCount
)

// ops is the name of each operation and the routes that belong to it: a method and a path below /api/, in which * is a
// name or an id.
var ops = [opCount]struct {
	name   string
	routes []string
}{
	Any:          {"Any", nil},
	Send:         {"Send", []string{"POST streams/*/messages"}},
	ListMessages: {"ListMessages", []string{"GET streams/*/messages"}},
	GetMessage:   {"GetMessage", []string{"GET streams/*/messages/*"}},
	MessageInfo:  {"MessageInfo", []string{"GET streams/*/messages/*/consumer_info"}},
	Receive: {"Receive", []string{"GET streams/*/consumers/*/receive", "POST streams/*/consumers/*/receive",
		"GET sequin_streams/*/receive", "POST sequin_streams/*/receive", "GET http_pull_consumers/*/receive", "POST http_pull_consumers/*/receive"}},
	PeekMessages:   {"PeekMessages", []string{"GET streams/*/consumers/*/messages"}},
	Ack:            {"Ack", []string{"POST streams/*/consumers/*/ack", "POST sequin_streams/*/ack", "POST http_pull_consumers/*/ack"}},
	Nack:           {"Nack", []string{"POST streams/*/consumers/*/nack", "POST sequin_streams/*/nack", "POST http_pull_consumers/*/nack"}},
	Extend:         {"Extend", []string{"POST streams/*/consumers/*/extend"}},
	EndReceive:     {"EndReceive", []string{"POST streams/*/consumers/*/end_receive"}},
	CreateStream:   {"CreateStream", []string{"POST streams"}},
	GetStream:      {"GetStream", []string{"GET streams/*"}},
	ListStreams:    {"ListStreams", []string{"GET streams"}},
	DeleteStream:   {"DeleteStream", []string{"DELETE streams/*"}},
	PurgeStream:    {"PurgeStream", []string{"POST streams/*/purge"}},
	CreateConsumer: {"CreateConsumer", []string{"POST streams/*/consumers"}},
	GetConsumer:    {"GetConsumer", []string{"GET streams/*/consumers/*"}},
	ListConsumers:  {"ListConsumers", []string{"GET streams/*/consumers"}},
	UpdateConsumer: {"UpdateConsumer", []string{"PUT streams/*/consumers/*", "PATCH streams/*/consumers/*"}},
	DeleteConsumer: {"DeleteConsumer", []string{"DELETE streams/*/consumers/*"}},
	GetSink:        {"GetSink", []string{"GET sinks/*"}},
	Other:          {"Other", nil},
}

// opOf maps a route to its operation.
var opOf = func() map[string]Op {
	byRoute := make(map[string]Op)
	for op, o := range ops {
		for _, route := range o.routes {
			byRoute[route] = Op(op)
		}
	}
	return byRoute
}()

// String returns the operation's name.
func (op Op) String() string {
	if op < opCount {
		return ops[op].name
	}
	return "unknown"
}

// classify returns the operation of a request. It reads the escaped path, in which a slash of a name is no separator.
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
	if op, ok := opOf[method+" "+strings.Join(elements, "/")]; ok {
		return op
	}
	return Other
}
