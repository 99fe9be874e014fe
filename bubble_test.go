//go:build go1.26

package sequin

// http2InBubbles says whether HTTP/2 runs in bubbles of testing/synctest.
const http2InBubbles = true
