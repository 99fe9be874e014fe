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

// world is a server in memory and its client. In a synctest bubble their time is virtual.
type world struct {
	*sequintest.Server
	client *sequin.Client
	ctx    context.Context
	mode   server.Compat
}

// inBothModes runs promise against a server of the documented behaviour and against one of the 2024 behaviour.
func inBothModes(t *testing.T, promise func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("documented", func(t *testing.T) { inMode(t, server.Documented, promise) })
	t.Run("aug2024", func(t *testing.T) { inMode(t, server.Aug2024, promise) })
}

// inMode runs promise in a synctest bubble. A goroutine that is left when it returns fails the test.
func inMode(t *testing.T, mode server.Compat, promise func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		promise(t, newWorld(t, sequintest.Config{Compat: mode}, sequin.Config{}))
	})
}

// whereNacksCannotBeDelayed runs promise against the servers that keep no message back.
func whereNacksCannotBeDelayed(t *testing.T, promise func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("documented", func(t *testing.T) { inDocumentedWithout(t, []string{"nack-delay"}, promise) })
	t.Run("aug2024", func(t *testing.T) { inMode(t, server.Aug2024, promise) })
}

// inDocumented is inMode for the server of the documented behaviour, with all extensions.
func inDocumented(t *testing.T, promise func(t *testing.T, w *world)) {
	t.Helper()
	inMode(t, server.Documented, promise)
}

// inDocumentedWithout is inMode for a server of the documented behaviour that lacks extensions.
func inDocumentedWithout(t *testing.T, extensions []string, promise func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		promise(t, newWorld(t, sequintest.Config{WithoutExtensions: extensions}, sequin.Config{}))
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

// stream creates a stream, and a consumer "all" of all its messages.
func (w *world) stream(t *testing.T, name string, opts sequin.ConsumerOptions) (*sequin.Stream, *sequin.Consumer) {
	t.Helper()
	s, err := w.client.CreateStream(w.ctx, name, sequin.StreamOptions{})
	require.NoError(t, err)
	c, err := w.client.CreateConsumer(w.ctx, name, "all", ">", opts)
	require.NoError(t, err)
	return s, c
}

// countingDials returns an http.Client of srv with connections of its own, and the number of its dials.
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

// ownRefusal is a body of Sequin's own answers other than success. Without it a fault is the answer of something else.
const ownRefusal = `{"summary":"refused by the test"}`

// quiet is a logger for servers whose expected errors must not appear in the test's output.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
