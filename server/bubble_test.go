//go:build go1.26

package server_test

// bubbleProtocols says for each protocol that a test runs in bubbles of testing/synctest whether it is HTTP/2.
var bubbleProtocols = []bool{false, true}
