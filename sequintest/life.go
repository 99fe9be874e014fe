package sequintest

import (
	"time"
)

// Down makes the server unreachable: connections are cut, what they were asked is abandoned, and dials are refused with an
// error that is syscall.ECONNREFUSED. The data stays. When Down returns, nothing is being acted on any more; a
// Fault's Match, which runs while its request is acted on, must not call it.
func (s *Server) Down() {
	s.tb.Helper()
	s.closeLoopback()
	s.network.setDown(true)
	s.report("Down", s.network.await(s.timeout, active))
}

// Up makes the server reachable again, under the same URLs, with the data it had.
func (s *Server) Up() {
	s.tb.Helper()
	s.network.setDown(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr == "" || s.loopback != nil || s.closing {
		return
	}
	if err := s.listenLocked(s.addr); err != nil {
		s.tb.Errorf("sequintest: Up: %v", err)
	}
}

// CutConnections breaks every connection, as a reset does: what is on the way is lost, and requests that the server is
// acting on lose their client. New connections are taken.
func (s *Server) CutConnections() { s.network.cut() }

// Close ends the server: long polls and delays are woken and answered, connections closed, and every handler waited for.
// Who does not end within Config.CloseTimeout is reported as an error of the test and cut off. It may be called again and
// concurrently; every call returns when all is over. NewServer's Cleanup calls it.
func (s *Server) Close() {
	s.tb.Helper()
	if !s.beginClose() {
		<-s.closed
		return
	}
	defer close(s.closed)

	// 1. Nobody new.
	s.closeLoopback()
	s.network.end()
	// 2. Whoever waits for the server is answered; whoever is answered goes.
	s.http.SetKeepAlivesEnabled(false)
	s.faults.end()
	s.embedded.Close()
	s.report("Close", s.network.await(s.timeout, active))
	// 3. The rest is closed and ends by itself, apart from a Match that never returns.
	s.network.close()
	s.report("Close, its connection gone", s.network.await(s.timeout, connected))
	for _, ended := range s.serving {
		<-ended
	}
}

// beginClose elects the call of Close that does the work.
func (s *Server) beginClose() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.closing
	s.closing = true
	return first
}

func (s *Server) closeLoopback() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loopback != nil {
		_ = s.loopback.Close() // closing a listener is all that can be done about it
		s.loopback = nil
	}
}

// report names whoever hangs.
func (s *Server) report(during string, hanging []activity) {
	s.tb.Helper()
	for _, a := range hanging {
		request := a.method + " " + a.path
		if a.method == "" {
			request = "a request that never came whole"
		}
		s.tb.Errorf("sequintest: %s has been running for %v and did not end within %v of %s",
			request, time.Since(a.since).Round(time.Millisecond), s.timeout, during)
	}
}
