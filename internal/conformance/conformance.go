// Package conformance tests the behaviour that the embedded server and a real Sequin server share, by named cases over
// plain HTTP. The cases do not use the client, so they do not repeat its assumptions.
//
// The package's own test runs all cases against the embedded server in both modes, and against the server that $SEQUIN_URL
// names if it is set. Each case creates a stream of its own and deletes it. The names are valid on the 2024 server, which
// allows no dashes, and always has a table for a stream and its consumer of at most 44 characters together.
package conformance

import (
	"net/http"
	"testing"

	"github.com/sequin-go/sequin/server"
)

// Cases returns all cases. They do not depend on one another. Some wait until a lease of a second ends.
func Cases() []Case {
	var all []Case
	for _, group := range [][]sessionCase{streamCases, messageCases, receiveCases, extensionCases} {
		for _, c := range group {
			all = append(all, Case{c.name, func(t *testing.T, target Target) { c.run(newSession(t, target)) }})
		}
	}
	return append(all, recordedCases()...)
}

// Detect returns the mode of a server. Only the 2024 server has streams without one_message_per_key.
func Detect(t *testing.T, url string, client *http.Client) server.Compat {
	t.Helper()
	s := newSession(t, Target{URL: url, Client: client})
	if _, found := s.object("GET", s.path(), "")["one_message_per_key"]; found {
		return server.Documented
	}
	return server.Aug2024
}
