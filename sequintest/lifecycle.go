package sequintest

import (
	"time"
)

// Down makes the server unreachable: connections are reset, their requests are abandoned, and dials fail with an error
// that is syscall.ECONNREFUSED where the system has it. The data stays. When Down returns, the server acts on no request any more. Requests that
// do not end within Config.CloseTimeout are reported as errors of the test. A Fault's Match must not call Down, because
// Down waits for the Match.
func (s *Server) Down() {
	s.tb.Helper()
	s.listeners.closeLoopback()
	s.network.setDown(true)
	s.report("Down", s.network.await(s.timeout, active))
}

// Up makes the server reachable again, with the same URLs and the data that it had.
func (s *Server) Up() {
	s.tb.Helper()
	s.network.setDown(false)
	if err := s.listeners.reopen(); err != nil {
		s.tb.Errorf("sequintest: Up: %v", err)
	}
}

// CutConnections resets every connection. Data in transit is lost, and requests that the server is acting on lose their
// client. New connections are accepted.
func (s *Server) CutConnections() { s.network.resetAll() }

// Close shuts the server down: it ends long polls and delays, answers their requests, closes the connections and waits for
// every handler. Requests that do not end within Config.CloseTimeout are reported as errors of the test, and their
// connections are reset. Close may be called again and concurrently; every call returns when the shutdown is complete.
// NewServer registers it with Cleanup.
func (s *Server) Close() {
	s.tb.Helper()
	// 1. Refuse new connections.
	if !s.listeners.close() {
		<-s.closed
		return
	}
	defer close(s.closed)
	s.network.end()
	// 2. Answer the requests that wait in the server, and close each connection after its answer.
	s.http.SetKeepAlivesEnabled(false)
	s.faults.end()
	s.embedded.Close()
	s.report("Close", s.network.await(s.timeout, active))
	// 3. Close the remaining connections. That ends every handler, except one in a Match that does not return.
	s.network.close()
	s.report("Close, its connection gone", s.network.await(s.timeout, connected))
	s.listeners.wait()
}

// report fails the test for each request that is still running.
func (s *Server) report(during string, running []activity) {
	s.tb.Helper()
	for _, a := range running {
		request := a.method + " " + a.path
		if a.method == "" {
			request = "a request whose header is incomplete"
		}
		s.tb.Errorf("sequintest: %s has been running for %v and did not end within %v of %s",
			request, time.Since(a.since).Round(time.Millisecond), s.timeout, during)
	}
}
