package sequintest

import "net"

// ConnPair is for benchmarks of the connection alone.
func ConnPair() (client, server net.Conn) {
	c, s := newConnPair(1)
	return c, s
}
