//go:build !go1.26

package sequin

// http2InBubbles is false: before Go 1.26 net/http keeps channels of its HTTP/2 server in a pool that bubbles share, and panics
// when a second bubble gets one.
const http2InBubbles = false
