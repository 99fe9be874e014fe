package sequin_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// This uses real sockets and the Client's own transport.
func TestTheErrorTellsWhyAServerCannotBeReached(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	refusing := "http://" + free.Addr().String()
	require.NoError(t, free.Close())

	served := 0
	count := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ })
	untrusted := httptest.NewUnstartedServer(count)
	untrusted.Config.ErrorLog = quiet()
	untrusted.StartTLS()
	defer untrusted.Close()
	plain := httptest.NewServer(count)
	defer plain.Close()

	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections, and never answers
	require.NoError(t, err)
	defer mute.Close()

	const long = time.Minute // more than a busy machine needs for a handshake
	for _, row := range []struct {
		name, url, says string
		timeout         time.Duration
	}{
		{"https to a server that never answers", "https://" + mute.Addr().String(), "handshake", 400 * time.Millisecond},
		{"refused", refusing, "connection refused): is the server running", long},
		{"a certificate of an unknown authority", untrusted.URL, "does this machine trust who signed it? $SSL_CERT_FILE may name", long},
		{"https to an http server", strings.Replace(plain.URL, "http:", "https:", 1), "HTTP response to HTTPS client): the server has no certificate: the URL must begin with http://", long},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := sequin.NewClient(sequin.Config{BaseURL: row.url, Timeout: row.timeout, Retry: sequin.RetryConfig{MaxAttempts: 2, MinWait: 1}})
			require.NoError(t, err)
			defer c.Close()
			for _, call := range []func() error{
				func() error { _, err := c.ListStreams(t.Context()); return err },
				func() error { return c.DeleteStream(t.Context(), "s") },
				func() error { return c.AckMessage(t.Context(), "s", "c", someID) },
			} {
				err := call()
				require.ErrorIs(t, err, sequin.ErrUnreachable)
				require.ErrorContains(t, err, row.url)
				require.ErrorContains(t, err, row.says)
				require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown, "without a connection nothing was carried out")
			}
		})
	}
	require.Zero(t, served)
}
