package conformance

import (
	"net/http"
	"testing"

	"github.com/sequin-go/sequin/server"
)

// Target is the server to test.
type Target struct {
	URL    string
	Client *http.Client
	Mode   server.Compat // the behaviour that is expected
}

// Case tests one behaviour of a server.
type Case struct {
	Name string
	Run  func(t *testing.T, target Target)
}
