package sequin_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// world is a server in memory and a client of it, in virtual time.
type world struct {
	*sequintest.Server
	client *sequin.Client
	ctx    context.Context
	mode   server.Compat
}

// inBothModes runs a promise against the documented behaviour and against that of the 2024 server.
func inBothModes(t *testing.T, promise func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("documented", func(t *testing.T) { inMode(t, server.Documented, promise) })
	t.Run("aug2024", func(t *testing.T) { inMode(t, server.Aug2024, promise) })
}

// inMode runs a promise in a bubble of virtual time; a goroutine that is left when it returns fails the test.
func inMode(t *testing.T, mode server.Compat, promise func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		promise(t, newWorld(t, sequintest.Config{Compat: mode}, sequin.Config{}))
	})
}

func newWorld(t *testing.T, cfg sequintest.Config, client sequin.Config) *world {
	t.Helper()
	srv := sequintest.NewServer(t, cfg)
	client.BaseURL, client.Token = srv.URL, cfg.Token
	if client.HTTPClient == nil {
		client.HTTPClient = srv.Client()
	}
	c, err := sequin.NewClient(client)
	require.NoError(t, err)
	return &world{Server: srv, client: c, ctx: t.Context(), mode: cfg.Compat}
}

// stream makes a stream with a consumer of everything.
func (w *world) stream(t *testing.T, name string, opts sequin.ConsumerOptions) (*sequin.Stream, *sequin.Consumer) {
	t.Helper()
	s, err := w.client.CreateStream(w.ctx, name, sequin.StreamOptions{})
	require.NoError(t, err)
	c, err := w.client.CreateConsumer(w.ctx, name, "all", ">", opts)
	require.NoError(t, err)
	return s, c
}

// countingDials is a client of srv's, with connections of its own that are counted.
func countingDials(srv *sequintest.Server) (*http.Client, *atomic.Int64) {
	dials := new(atomic.Int64)
	transport := srv.Client().Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, addr)
	}
	return &http.Client{Transport: transport}, dials
}

// quiet is for servers that would otherwise write to the test's output what they are meant to suffer.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
