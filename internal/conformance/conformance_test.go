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

// TestTheEmbeddedServerConforms runs every case in both modes, and without the extensions, in virtual time.
func TestTheEmbeddedServerConforms(t *testing.T) {
	for name, cfg := range map[string]sequintest.Config{
		"documented": {}, "aug2024": {Compat: server.Aug2024}, "without extensions": {WithoutExtensions: server.Extensions()},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range conformance.Cases() {
				t.Run(c.Name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						srv := sequintest.NewServer(t, cfg)
						c.Run(t, conformance.Target{URL: srv.URL, Client: srv.Client(), Mode: cfg.Compat})
					})
				})
			}
		})
	}
}

// TestTheServerOfSequinURLConforms runs every case against the server that $SEQUIN_URL names, if it is set.
func TestTheServerOfSequinURLConforms(t *testing.T) {
	url := os.Getenv("SEQUIN_URL")
	if url == "" {
		t.Log("SEQUIN_URL is not set: no other server is tested")
		return
	}
	// The documented server refuses a body by its declared length, before the client has sent it. The 2024 server sends no
	// 100 Continue and reads the body first: the client sends it when this time is over.
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 5 * time.Second}}
	t.Cleanup(client.CloseIdleConnections)
	mode := conformance.Detect(t, url, client)
	t.Logf("%s is tested in mode %s", url, mode)
	for _, c := range conformance.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			c.Run(t, conformance.Target{URL: url, Client: client, Mode: mode})
		})
	}
}

// TestAStreamIsDeletedAfterResets cuts the connections of two deletes.
func TestAStreamIsDeletedAfterResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		srv.Fault(sequintest.Fault{Op: sequintest.DeleteStream, CutBefore: true, Count: 2})
		t.Cleanup(func() {
			if left := srv.Streams(); len(left) > 0 {
				t.Errorf("streams are left: %v", left)
			}
		})
		conformance.Detect(t, srv.URL, srv.Client())
	})
}

func TestDetectRecognizesTheMode(t *testing.T) {
	for _, mode := range []server.Compat{server.Documented, server.Aug2024} {
		synctest.Test(t, func(t *testing.T) {
			srv := sequintest.NewServer(t, sequintest.Config{Compat: mode})
			if got := conformance.Detect(t, srv.URL, srv.Client()); got != mode {
				t.Errorf("a server in mode %s is detected as %s", mode, got)
			}
		})
	}
}
