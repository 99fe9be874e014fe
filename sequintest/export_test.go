package sequintest

import "net"

// ConnPair returns the two ends of an in-memory connection, for benchmarks of the connection without HTTP.
func ConnPair() (client, server net.Conn) {
	c, s := newConnPair(1)
	return c, s
}
