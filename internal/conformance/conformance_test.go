package conformance_test

import (
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sequin-go/sequin/internal/conformance"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// TestTheEmbeddedServer runs every case in both modes, in virtual time.
func TestTheEmbeddedServer(t *testing.T) {
	for _, mode := range []server.Compat{server.Documented, server.Aug2024} {
		t.Run(mode.String(), func(t *testing.T) {
			for _, c := range conformance.Cases() {
				t.Run(c.Name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						srv := sequintest.NewServer(t, sequintest.Config{Compat: mode})
						c.Run(t, conformance.Target{URL: srv.URL, Client: srv.Client(), Mode: mode})
					})
				})
			}
		})
	}
}

// TestTheServerOfTheEnvironment runs every case against the server that $SEQUIN_URL names. Without it there is nothing to
// compare: the embedded server has been tried above.
func TestTheServerOfTheEnvironment(t *testing.T) {
	url := os.Getenv("SEQUIN_URL")
	if url == "" {
		t.Log("SEQUIN_URL is not set: no other server is tried")
		return
	}
	// A server refuses a body that is too large by its declared length: who does not wait for that may be cut off while writing.
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 5 * time.Second}}
	t.Cleanup(client.CloseIdleConnections)
	mode := conformance.Detect(t, url, client)
	t.Logf("%s shows the behaviour called %s", url, mode)
	for _, c := range conformance.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			c.Run(t, conformance.Target{URL: url, Client: client, Mode: mode})
		})
	}
}

// TestTheModesAreToldApart is what the run against an unknown server relies on.
func TestTheModesAreToldApart(t *testing.T) {
	for _, mode := range []server.Compat{server.Documented, server.Aug2024} {
		synctest.Test(t, func(t *testing.T) {
			srv := sequintest.NewServer(t, sequintest.Config{Compat: mode})
			if got := conformance.Detect(t, srv.URL, srv.Client()); got != mode {
				t.Errorf("%s is taken for %s", mode, got)
			}
		})
	}
}
