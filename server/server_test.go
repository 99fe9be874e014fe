package server_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// TestASlowClientIsDisconnected covers slow headers and slow bodies. Other clients are served meanwhile.
func TestASlowClientIsDisconnected(t *testing.T) {
	const request = "POST /api/streams HTTP/1.1\r\nHost: pipe\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
	for name, begin := range map[string]string{
		"header":                    request[:30],
		"body":                      request + `{"name":`,
		"body that is not read":     strings.Replace(request, "application/json", "text/plain", 1),
		"body for an unknown route": strings.Replace(request, "/api", "/", 1),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, server.Config{})
				conn, err := s.listener.dial(t.Context(), "", "")
				require.NoError(t, err)
				defer conn.Close()
				_, err = io.WriteString(conn, begin)
				require.NoError(t, err)
				start := time.Now()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_, _ = io.Copy(io.Discard, conn)
				}()
				go trickle(conn)
				for range 5 {
					time.Sleep(time.Second)
					resp, err := s.client.Get("http://pipe/api/streams")
					require.NoError(t, err)
					_ = resp.Body.Close()
				}
				<-ended
				require.Less(t, time.Since(start), 2*time.Minute)
			})
		})
	}
}

// trickle sends one byte a second until the connection is closed.
func trickle(conn net.Conn) {
	for {
		time.Sleep(time.Second)
		if _, err := io.WriteString(conn, "x"); err != nil {
			return
		}
	}
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{})
		conn, err := s.listener.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		start := time.Now()
		go func() { _, _ = io.WriteString(conn, "GET /api/streams HTTP/1.1\r\nHost: pipe\r\n\r\n") }()
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, err)
		require.Equal(t, 2*time.Minute, time.Since(start))
	})
}
