package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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

// TestAClientThatLeavesALongPollTakesNothing cuts the connection while the poll waits, then sends a message.
func TestAClientThatLeavesALongPollTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{})
		a := (&api{t, s.Server}).withStream("", "")
		ctx, leave := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			r, err := http.NewRequestWithContext(ctx, "GET", "http://pipe/api/streams/s/consumers/c/receive?wait_for=60000", nil)
			if err == nil {
				_, err = s.client.Do(r)
			}
			failed <- err
		}()
		synctest.Wait()
		require.Equal(t, 1, a.consumer().Waiting)
		leave()
		require.ErrorIs(t, <-failed, context.Canceled)
		synctest.Wait()
		require.Equal(t, 0, a.consumer().Waiting)
		a.send("a=1")
		got := a.receive(`{}`)
		require.Equal(t, 1, got[0].DeliverCount)
	})
}

// brokenWriter is a connection that dies in the answer.
type brokenWriter struct {
	*httptest.ResponseRecorder
	failWrite bool
}

func (w brokenWriter) Write(b []byte) (int, error) {
	if w.failWrite {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func (w brokenWriter) FlushError() error { return io.ErrClosedPipe }

// TestWhatCannotBeWrittenIsGivenBackUncounted has one row for every moment at which the client's end is noticed.
func TestWhatCannotBeWrittenIsGivenBackUncounted(t *testing.T) {
	gone, leave := context.WithCancel(context.Background())
	leave()
	tests := map[string]struct {
		ctx context.Context
		w   http.ResponseWriter
	}{
		"gone before the answer":     {gone, httptest.NewRecorder()},
		"gone while it is written":   {context.Background(), brokenWriter{httptest.NewRecorder(), true}},
		"gone when the last byte is": {context.Background(), brokenWriter{httptest.NewRecorder(), false}},
	}
	for name, tt := range tests {
		for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
			t.Run(fmt.Sprint(name, " ", compat), func(t *testing.T) {
				a := newAPI(t, server.Config{Compat: compat}).withStream("", "")
				a.send("a=1", "b=2")
				r := httptest.NewRequestWithContext(tt.ctx, "GET", "/api/streams/s/consumers/c/receive?batch_size=10", nil)
				a.ServeHTTP(tt.w, r)
				if compat == server.Aug2024 {
					require.Len(t, a.consumer().Outstanding, 2, "that server knows nothing of its clients")
					return
				}
				got := a.receive(`{"batch_size":10}`)
				require.Equal(t, []string{"a=1", "b=2"}, got.pairs())
				require.Equal(t, 1, got[0].DeliverCount)
			})
		}
	}
}

// TestABodyTooLargeEndsTheConnection covers a length that is declared and one that turns out.
func TestABodyTooLargeEndsTheConnection(t *testing.T) {
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
				require.Equal(t, http.StatusOK, a.call("POST", "/api/streams/s/messages", bodyOfSize(8_000_000)).status, "the limit itself passes")
			})
		})
	}
}

// TestAHugeDeclaredLengthAllocatesLittle claims eight megabytes and sends one byte.
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

// TestASlowClientIsCutOff covers a header and a body that trickle; others are served meanwhile.
func TestASlowClientIsCutOff(t *testing.T) {
	const request = "POST /api/streams HTTP/1.1\r\nHost: pipe\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
	for name, begin := range map[string]string{
		"header":                    request[:30],
		"body":                      request + `{"name":`,
		"body that nobody reads":    strings.Replace(request, "application/json", "text/plain", 1),
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

// trickle sends a byte a second until the connection is closed.
func trickle(conn net.Conn) {
	for {
		time.Sleep(time.Second)
		if _, err := io.WriteString(conn, "x"); err != nil {
			return
		}
	}
}

func TestABodyThatIsTooSlowIsAnswered408(t *testing.T) {
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

// TestALongPollOutlivesTheTimeForItsBody waits longer than a body may take.
func TestALongPollOutlivesTheTimeForItsBody(t *testing.T) {
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

// panicReader breaks a handler from within.
type panicReader struct{ value any }

func (r panicReader) Read([]byte) (int, error) { panic(r.value) }

func TestAPanicIsAnswered500AndLogged(t *testing.T) {
	var log bytes.Buffer
	a := newAPI(t, server.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r := httptest.NewRequest("POST", "/api/streams", panicReader{errors.New("broken")})
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Equal(t, `{"errors":{"detail":"Internal Server Error"}}`, w.Body.String())
	require.Contains(t, log.String(), "panic=broken")
	require.Contains(t, log.String(), "path=/api/streams")
}

func TestAnAbortedHandlerStaysAborted(t *testing.T) {
	a := newAPI(t, server.Config{})
	r := httptest.NewRequest("POST", "/api/streams", panicReader{http.ErrAbortHandler})
	r.Header.Set("Content-Type", "application/json")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { a.ServeHTTP(httptest.NewRecorder(), r) })
}
