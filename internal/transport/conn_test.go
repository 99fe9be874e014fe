package transport

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// countingConn counts the calls of Write.
type countingConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func TestABodyIsWrittenInOnePiece(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789"), 100_000)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(sent, got))
	}))
	defer srv.Close()
	var writes atomic.Int32
	dial := Dial(new(net.Dialer))
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		require.NoError(t, err)
		c.(*conn).Conn = countingConn{c.(*conn).Conn, &writes}
		return c, nil
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, nil)
	require.NoError(t, err)
	(&Payload{JSON: sent}).begin(req, true)
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.LessOrEqual(t, writes.Load(), int32(2), "what fits into the write buffer together with the header, and the rest")
}

func TestNoMoreOfABodyIsWrittenThanItsLength(t *testing.T) {
	for _, row := range []struct {
		name    string
		body    io.Reader
		limit   int64
		written string
		err     error
	}{
		{"as long as it says", strings.NewReader("12345"), 5, "12345", nil},
		{"shorter", strings.NewReader("123"), 5, "123", nil},
		{"longer", strings.NewReader("1234567"), 5, "", io.ErrShortWrite},
		{"in pieces", io.MultiReader(strings.NewReader("123"), strings.NewReader("4567")), 5, "123", io.ErrShortWrite},
		{"without WriteTo", struct{ io.Reader }{strings.NewReader("1234567")}, 5, "12345", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			near, far := net.Pipe()
			got := make(chan string)
			go func() {
				all, _ := io.ReadAll(far)
				got <- string(all)
			}()
			rest := &io.LimitedReader{R: row.body, N: row.limit}
			n, err := (&conn{near}).ReadFrom(rest)
			require.Equal(t, row.err, err)
			require.NoError(t, near.Close())
			require.Equal(t, row.written, <-got)
			require.EqualValues(t, len(row.written), n)
			require.Equal(t, row.limit-n, rest.N)
		})
	}
}

func TestADialThatFails(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	c, err := Dial(new(net.Dialer))(t.Context(), "tcp", ln.Addr().String())
	require.Error(t, err)
	require.Nil(t, c)
}
