package sequintest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// rawDial opens a connection to the server, in memory or over loopback TCP.
func rawDial(t *testing.T, srv *sequintest.Server, overTCP bool) net.Conn {
	t.Helper()
	if overTCP {
		c, err := net.Dial("tcp", strings.TrimPrefix(srv.Listen(), "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	c, err := srv.Client().Transport.(*http.Transport).DialContext(t.Context(), "tcp", "sequin.test:80")
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// bothWays runs a test over the in-memory connection and over TCP, which must behave the same.
func bothWays(t *testing.T, f func(t *testing.T, srv *sequintest.Server, c net.Conn)) {
	t.Helper()
	for name, overTCP := range map[string]bool{"memory": false, "TCP": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newOrders(t, sequintest.Config{})
			f(t, srv, rawDial(t, srv, overTCP))
		})
	}
}

func sendHead(length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: sequin.test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", sendPath, length)
}

func TestARequestWithAnIncompleteBodyIsNotActedOn(t *testing.T) {
	bothWays(t, func(t *testing.T, srv *sequintest.Server, c net.Conn) {
		_, err := io.WriteString(c, sendHead(1000)+messages("a"))
		require.NoError(t, err)
		require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Empty(t, stored(t, srv))
	})
}

func TestTwoRequestsInOneWriteAreBothAnswered(t *testing.T) {
	bothWays(t, func(t *testing.T, srv *sequintest.Server, c net.Conn) {
		first, second := messages("a"), messages("b")
		_, err := io.WriteString(c, sendHead(len(first))+first+sendHead(len(second))+second)
		require.NoError(t, err)
		answers := bufio.NewReader(c)
		for range 2 {
			resp, err := http.ReadResponse(answers, nil)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, resp.StatusCode)
		}
		require.Equal(t, []string{"a", "b"}, stored(t, srv))
	})
}

// TestATooLargeBodyIsRefusedAndRead writes the whole body before it reads the answer, as a plain client does.
func TestATooLargeBodyIsRefusedAndRead(t *testing.T) {
	bothWays(t, func(t *testing.T, srv *sequintest.Server, c net.Conn) {
		const length = 50_000_000
		_, err := io.WriteString(c, sendHead(length)+strings.Repeat(" ", length))
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
	})
}

func TestCutAfterIsSeenAsAReset(t *testing.T) {
	bothWays(t, func(t *testing.T, srv *sequintest.Server, c net.Conn) {
		reached := srv.Fault(sequintest.Fault{Op: sequintest.Send, CutAfter: true})
		body := messages("a")
		_, err := io.WriteString(c, sendHead(len(body))+body)
		require.NoError(t, err)
		require.NoError(t, reached.Wait(t.Context(), 1))
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, sequintest.ErrReset)
	})
}

func TestExpect100ContinueIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		client := srv.Client()
		client.Transport.(*http.Transport).ExpectContinueTimeout = time.Hour
		req, err := http.NewRequest("POST", srv.URL+sendPath, strings.NewReader(messages("a")))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Expect", "100-continue")
		begin := time.Now()
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, 200, srv.Requests(sequintest.Send)[0].Status, "the status 100 is not the answer")
		require.Zero(t, time.Since(begin))
	})
}

func TestAConnectionWithAnIncompleteHeaderIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		c := rawDial(t, srv, false)
		begin := time.Now()
		_, err := io.WriteString(c, "GET /api/streams HTTP/1.1\r\nHost: seq")
		require.NoError(t, err)
		_, _ = io.ReadAll(c)
		require.Equal(t, 10*time.Second, time.Since(begin))
	})
}

func TestConcurrentRequestsAreAllServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		a := dial(srv)
		done := make(chan error)
		for i := range 100 {
			go func() {
				_, _, err := a.do("POST", sendPath, messages(fmt.Sprintf("a.%d", i)))
				done <- err
			}()
		}
		for range 100 {
			require.NoError(t, <-done)
		}
		require.Len(t, stored(t, srv), 100)
	})
}

func TestALongPollEndsWithTheClientsTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "POST", srv.URL+idlePath, strings.NewReader(longPoll))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		begin := time.Now()
		_, err = srv.Client().Do(req)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(begin))
	})
}

func TestTokenAndCompatApplyToTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{Token: "secret"})
		status, _, err := dial(srv).do("GET", "/api/streams", "")
		require.NoError(t, err)
		require.Equal(t, http.StatusUnauthorized, status)

		srv = newOrders(t, sequintest.Config{Compat: server.Aug2024})
		status, answer, err := dial(srv).do("POST", idlePath, longPoll)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, answer, "wait_for")
	})
}

func TestExtensionsCanBeSwitchedOff(t *testing.T) {
	for _, tt := range []struct {
		off  []string
		want string
	}{
		{nil, "fenced-acks, parts, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive"},
		{[]string{"parts"}, "fenced-acks, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive"},
		{server.Extensions(), ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := sequintest.NewServer(t, sequintest.Config{WithoutExtensions: tt.off})
			resp, err := srv.Client().Get(srv.URL + "/api/streams")
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, tt.want, resp.Header.Get("Sequin-Extensions"))
		})
	}
}

func TestAnUnknownExtensionFailsTheTest(t *testing.T) {
	tb := &spy{}
	message := fatally(func() { sequintest.NewServer(tb, sequintest.Config{WithoutExtensions: []string{"parts", "fences"}}) })
	require.Equal(t, `sequintest: Config.WithoutExtensions has "fences"; the extensions are fenced-acks, parts, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive`, message)
	require.Empty(t, tb.cleanups, "no server was started")
}

func TestPanicsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		srv := sequintest.NewServer(t, sequintest.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		srv.Fault(sequintest.Fault{Match: func(*sequintest.Request) bool { panic("in a Match") }})
		_, _, err := dial(srv).do("GET", "/api/streams", "")
		require.Error(t, err)
		srv.Close()
		require.Contains(t, logged.String(), "in a Match")
	})
}
