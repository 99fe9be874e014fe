package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestTheRequestBytesAreLimited(t *testing.T) {
	a := newAPI(t, server.Config{Limits: server.Limits{RequestBytes: 1000}}).withStream("", "")
	require.Equal(t, http.StatusOK, a.call("POST", "/api/streams/s/messages", bodyOfSize(1000)).status)
	require.Equal(t, http.StatusRequestEntityTooLarge, a.call("POST", "/api/streams/s/messages", bodyOfSize(1001)).status)
}

func TestTheNumberOfStreamsIsLimited(t *testing.T) {
	a := newAPI(t, server.Config{Limits: server.Limits{Streams: 2}})
	a.ok("POST", "/api/streams", `{"name":"a"}`)
	a.ok("POST", "/api/streams", `{"name":"b"}`)
	got := a.call("POST", "/api/streams", `{"name":"c"}`)
	require.Equal(t, http.StatusUnprocessableEntity, got.status)
	require.Contains(t, got.body, "holds at most 2")
	require.Equal(t, []string{"b", "a"}, a.Streams())
	a.ok("DELETE", "/api/streams/a", "")
	a.ok("POST", "/api/streams", `{"name":"c"}`)
}

func TestTheWaitingReceivesOfAConsumerAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, server.Config{Limits: server.Limits{Waiting: 2}}).withStream("", `,"max_waiting":3`)
		a.ok("POST", "/api/streams/s/consumers", `{"name":"other","filter_key_pattern":">"}`)
		wait := func(consumer string) chan int {
			status := make(chan int, 1)
			go func() {
				status <- a.call("POST", "/api/streams/s/consumers/"+consumer+"/receive", `{"wait_for":1000}`).status
			}()
			synctest.Wait()
			return status
		}
		first, second := wait("c"), wait("c")
		require.Equal(t, 2, a.Load().Waiting)
		got := a.call("POST", "/api/streams/s/consumers/c/receive", `{"wait_for":1000}`)
		require.Equal(t, http.StatusTooManyRequests, got.status)
		require.Contains(t, got.body, "this server allows 2")
		require.Equal(t, http.StatusOK, <-wait("other"))
		require.Equal(t, http.StatusOK, <-first)
		require.Equal(t, http.StatusOK, <-second)
		require.Equal(t, http.StatusOK, <-wait("c"), "the places are free again")
		require.Zero(t, a.Load().Waiting)
	})
}

// TestTheBytesInFlightAreLimited holds a body of half the limit while other requests come.
func TestTheBytesInFlightAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1_000_000
		s := serve(t, server.Config{Limits: server.Limits{RequestBytes: limit, BytesInFlight: limit}})
		a := (&api{t, s.Server}).withStream("", "")
		a.send("a=1")
		post := func(path, body string) *http.Response {
			resp, err := s.client.Post("http://pipe"+path, "application/json", strings.NewReader(body))
			require.NoError(t, err)
			_, _ = io.Copy(io.Discard, resp.Body)
			require.NoError(t, resp.Body.Close())
			return resp
		}
		reader, writer := io.Pipe()
		held := make(chan int, 1)
		go func() {
			resp, err := s.client.Post("http://pipe/api/streams/s/messages", "application/json", reader)
			if err == nil {
				_ = resp.Body.Close()
				held <- resp.StatusCode
			}
		}()
		body := bodyOfSize(limit / 2)
		_, err := io.WriteString(writer, body[:len(body)-1])
		require.NoError(t, err)
		synctest.Wait()
		require.EqualValues(t, len(body)-1, s.Load().BytesInFlight)

		require.Equal(t, http.StatusOK, post("/api/streams/s/messages", bodyOfSize(limit/2-1000)).StatusCode)
		refused := post("/api/streams/s/messages", bodyOfSize(limit/2+1000))
		require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
		require.Equal(t, "1", refused.Header.Get("Retry-After"))

		_, err = io.WriteString(writer, body[len(body)-1:])
		require.NoError(t, err)
		require.NoError(t, writer.Close())
		require.Equal(t, http.StatusOK, <-held)
		require.Zero(t, s.Load().BytesInFlight)
		require.Equal(t, http.StatusOK, post("/api/streams/s/messages", bodyOfSize(limit/2+1000)).StatusCode)
	})
}

// TestAnswersCountAsBytesInFlight has a client not read its answer. Nothing is leased for the receives that are refused meanwhile.
func TestAnswersCountAsBytesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{Limits: server.Limits{RequestBytes: 100_000, BytesInFlight: 200_000}})
		a := (&api{t, s.Server}).withStream("", "")
		for i := range 5 {
			a.send(fmt.Sprintf("k.%d=%s", i, strings.Repeat("x", 90_000)))
		}
		slow, err := s.listener.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer slow.Close()
		write(t, slow, "GET /api/streams/s/consumers/c/receive?batch_size=3 HTTP/1.1\r\nHost: pipe\r\n\r\n")
		synctest.Wait()
		require.Greater(t, s.Load().BytesInFlight, int64(270_000))
		for _, route := range []string{"consumers/c/receive", "consumers/c/receive?wait_for=500", "messages", "consumers/c/messages"} {
			got := a.call("GET", "/api/streams/s/"+route, "")
			require.Equal(t, http.StatusTooManyRequests, got.status, route)
			require.Equal(t, "1", got.header.Get("Retry-After"))
		}
		begin := time.Now()
		for s.Load().BytesInFlight > 0 {
			time.Sleep(time.Second)
		}
		require.InDelta(t, 60, time.Since(begin).Seconds(), 2, "the answer is given up after a minute")
		require.Len(t, a.receive(`{"batch_size":10}`), 5, "its messages are available again")
	})
}

// TestAcksAreTakenWhileTheBytesInFlightAreUsedUp has a client not read its answer, which keeps the budget used up.
func TestAcksAreTakenWhileTheBytesInFlightAreUsedUp(t *testing.T) {
	for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
		synctest.Test(t, func(t *testing.T) {
			limits := server.Limits{RequestBytes: 100_000, BytesInFlight: 100_000}
			s := serve(t, server.Config{Compat: compat, Limits: limits})
			a := (&api{t, s.Server}).withStream("", "")
			a.send("first=1", "second=2")
			got := a.receive(`{"batch_size":2}`)
			for i := range 2 {
				a.send(fmt.Sprintf("k.%d=%s", i, strings.Repeat("x", 90_000)))
			}
			slow, err := s.listener.dial(t.Context(), "", "")
			require.NoError(t, err)
			defer slow.Close()
			write(t, slow, "GET /api/streams/s/consumers/c/receive?batch_size=2 HTTP/1.1\r\nHost: pipe\r\n\r\n")
			synctest.Wait()
			used := s.Load().BytesInFlight
			require.Greater(t, used, int64(150_000))
			require.Equal(t, http.StatusTooManyRequests, a.call("POST", "/api/streams/s/messages", sendBody("a=1")).status)
			a.ack(got[:1])
			a.nack(got[1:])
			require.Len(t, messages(t, a), 4)
			large := a.call("POST", "/api/streams/s/consumers/c/ack", got.ids("")+strings.Repeat(" ", limits.RequestBytes/8))
			require.Equal(t, http.StatusTooManyRequests, large.status, "the share of acks is bounded too")
			require.Equal(t, used, s.Load().BytesInFlight, "what acks took is free again")
		})
	}
}

// get reads an answer to its end, so that the connection can be used again.
func get(t *testing.T, client *http.Client, path string) *http.Response {
	t.Helper()
	resp, err := client.Get("http://pipe" + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp
}

func TestTheConnectionsAreLimited(t *testing.T) {
	for _, http2 := range bubbleProtocols {
		synctest.Test(t, func(t *testing.T) {
			s := serve(t, server.Config{Limits: server.Limits{Connections: 2}})
			var conns []net.Conn
			for range 2 {
				conn, err := s.listener.dial(t.Context(), "", "")
				require.NoError(t, err)
				defer conn.Close()
				conns = append(conns, conn)
			}
			synctest.Wait()
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			client := s.newClient(t, protocols)
			refused := get(t, client, "/api/streams")
			require.Equal(t, http.StatusServiceUnavailable, refused.StatusCode)
			require.Equal(t, "1", refused.Header.Get("Retry-After"))
			time.Sleep(2 * time.Second)
			require.Equal(t, 2, s.Load().Connections, "the surplus connection is closed")

			write(t, conns[0], "GET /api/streams HTTP/1.1\r\nHost: pipe\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conns[0]), nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, resp.StatusCode, "the first connections are served")
			require.NoError(t, conns[1].Close())
			synctest.Wait()
			require.Equal(t, http.StatusOK, get(t, client, "/api/streams").StatusCode, "there is room again")
		})
	}
}

// TestManyIdleConnectionsKeepNobodyFromTheServer opens connections that send nothing, or one request.
func TestManyIdleConnectionsKeepNobodyFromTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 1000
		s := serve(t, server.Config{Limits: server.Limits{HeaderTime: 5 * time.Second, IdleTime: time.Minute}})
		for i := range idle {
			conn, err := s.listener.dial(t.Context(), "", "")
			require.NoError(t, err)
			defer conn.Close()
			if i%2 == 0 {
				go func() {
					_, _ = io.WriteString(conn, "GET /api/streams HTTP/1.1\r\nHost: pipe\r\n\r\n")
					_, _ = io.Copy(io.Discard, conn)
				}()
			}
		}
		synctest.Wait()
		check := func(want int) {
			require.Equal(t, http.StatusOK, get(t, s.client, "/api/streams").StatusCode)
			require.Equal(t, want, s.Load().Connections)
		}
		check(idle + 1)
		time.Sleep(6 * time.Second)
		check(idle/2 + 1)
		time.Sleep(time.Minute)
		check(1)
	})
}

// TestTheHeaderTimeEndsOnlyConnectionsWithoutARequest has a client of each protocol, and one that sends part of a header.
func TestTheHeaderTimeEndsOnlyConnectionsWithoutARequest(t *testing.T) {
	for _, http2 := range bubbleProtocols {
		for _, part := range []string{"G", "PRI * HT", "GET /api/streams HTTP/1.1\r\nHost:"} {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, server.Config{Limits: server.Limits{HeaderTime: 5 * time.Second, IdleTime: time.Minute}})
				protocols := new(http.Protocols)
				protocols.SetHTTP1(!http2)
				protocols.SetUnencryptedHTTP2(http2)
				client := s.newClient(t, protocols)
				dials := 0
				client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					dials++
					return s.listener.dial(ctx, network, addr)
				}
				slow, err := s.listener.dial(t.Context(), "", "")
				require.NoError(t, err)
				defer slow.Close()
				write(t, slow, part)
				get(t, client, "/api/streams")
				time.Sleep(4 * time.Second)
				require.Equal(t, 2, s.Load().Connections)
				time.Sleep(2 * time.Second)
				require.Equal(t, 1, s.Load().Connections, part)
				get(t, client, "/api/streams")
				require.Equal(t, 1, dials)
			})
		}
	}
}
