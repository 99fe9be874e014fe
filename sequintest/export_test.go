package sequintest

import "net"

// ConnPair returns the two ends of an in-memory connection, for benchmarks of the connection without HTTP.
func ConnPair() (client, server net.Conn) {
	c, s := newConnPair(1)
	return c, s
}

// The errors that tests expect. They have other types on Plan 9.
const (
	ErrReset   = errReset
	ErrRefused = errRefused
)
