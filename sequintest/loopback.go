package sequintest

import (
	"net"
)

// loopback is the real listener that Listen opens, for programs that run as processes of their own.
type loopback struct {
	*net.TCPListener
	network *network
}

func listenLoopback(addr string, n *network) (*loopback, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &loopback{TCPListener: l.(*net.TCPListener), network: n}, nil
}

// Accept hands over connections that the network knows, so that Down and CutConnections reach them.
func (l *loopback) Accept() (net.Conn, error) {
	for {
		raw, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		c := tcpConn{raw}
		if l.network.admit(c) {
			return c, nil
		}
		c.reset() // it came in between Down and the listener's end
	}
}
