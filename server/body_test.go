package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// TestATooLargeBodyIsAnswered413AndClosesTheConnection covers bodies with and without a declared length.
func TestATooLargeBodyIsAnswered413AndClosesTheConnection(t *testing.T) {
	for _, declared := range []bool{true, false} {
		t.Run(fmt.Sprint("declared=", declared), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, server.Config{})
				a := (&api{t, s.Server}).withStream("", "")
				var body io.Reader = strings.NewReader(bodyOfSize(8_000_001))
				if !declared {
					body = io.MultiReader(body)
				}
				r, err := http.NewRequest("POST", "http://pipe/api/streams/s/messages", body)
				require.NoError(t, err)
				r.Header.Set("Content-Type", "application/json")
				got, err := s.client.Do(r)
				require.NoError(t, err)
				defer got.Body.Close()
				require.Equal(t, http.StatusRequestEntityTooLarge, got.StatusCode)
				require.True(t, got.Close, "Connection: close")
				require.Empty(t, got.Header.Get("X-Request-Id"))
				require.Empty(t, a.receive(`{}`))
				require.Equal(t, http.StatusOK, a.call("POST", "/api/streams/s/messages", bodyOfSize(8_000_000)).status, "a body of exactly the limit is accepted")
			})
		})
	}
}

// TestAHugeDeclaredLengthAllocatesLittle declares eight megabytes and sends one byte.
func TestAHugeDeclaredLengthAllocatesLittle(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	send := func() {
		r := httptest.NewRequest("POST", "/api/streams/s/messages", strings.NewReader(`{`))
		r.ContentLength = 8_000_000
		r.Header.Set("Content-Type", "application/json")
		a.ServeHTTP(httptest.NewRecorder(), r)
	}
	const times = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		send()
	}
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/times, uint64(200_000))
}

func TestATooSlowBodyIsAnswered408(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{})
		conn, err := s.listener.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "POST /api/streams HTTP/1.1\r\nHost: pipe\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
		require.True(t, resp.Close)
	})
}

// TestTheBodyTimeoutDoesNotEndALongPoll waits longer than a body may take.
func TestTheBodyTimeoutDoesNotEndALongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{})
		a := (&api{t, s.Server}).withStream("", "")
		time.AfterFunc(4*time.Minute, func() { a.send("a=1") })
		resp, err := s.client.Post("http://pipe/api/streams/s/consumers/c/receive", "application/json", strings.NewReader(`{"wait_for":"5m"}`))
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, []string{"a=1"}, parseDeliveries(t, string(body)).pairs())
	})
}
