//go:build !go1.26

package server_test

// bubbleProtocols lacks HTTP/2: before Go 1.26 net/http keeps channels of its HTTP/2 server in a pool that bubbles share,
// and panics when a second bubble gets one.
var bubbleProtocols = []bool{false}
