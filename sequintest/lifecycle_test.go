package sequintest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/sequintest"
)

const (
	idlePath = "/api/streams/orders/consumers/idle/receive"
	longPoll = `{"batch_size":1,"wait_for":20000}`
)

// waiting returns how many long polls are waiting in the server.
func waiting(t *testing.T, srv *sequintest.Server) (n int) {
	t.Helper()
	state, ok := srv.Stream("orders")
	require.True(t, ok)
	for _, c := range state.Consumers {
		n += c.Waiting
	}
	return n
}

// poll starts a long poll and returns once it waits in the server.
func poll(t *testing.T, srv *sequintest.Server, a api) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, _, err := a.do("POST", idlePath, longPoll)
		done <- err
	}()
	synctest.Wait()
	require.Equal(t, 1, waiting(t, srv))
	return done
}

func TestADownServerRefusesAndKeepsItsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		a := dial(srv)
		a.send(t, "kept")
		polling := poll(t, srv, dial(srv))

		begin := time.Now()
		srv.Down()
		srv.Down() // does nothing
		require.Zero(t, time.Since(begin))
		require.ErrorIs(t, <-polling, sequintest.ErrReset)

		_, _, err := a.do("POST", sendPath, messages("refused"))
		require.ErrorIs(t, err, sequintest.ErrRefused)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		require.Equal(t, "dial", op.Op)

		srv.Up()
		a.send(t, "after")
		require.Equal(t, []string{"kept", "after"}, stored(t, srv))
	})
}

func TestTheServerActsOnNothingAfterDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		slow := srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Hour})
		sending := make(chan error, 1)
		go func() {
			_, _, err := dial(srv).do("POST", sendPath, messages("lost"))
			sending <- err
		}()
		require.NoError(t, slow.Wait(t.Context(), 1))
		srv.Down()
		slow.Remove()
		require.Error(t, <-sending)
		require.Empty(t, stored(t, srv))
	})
}

func TestCutConnectionsResetsAndAllowsNewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		a := dial(srv)
		polling := poll(t, srv, a)
		srv.CutConnections()
		require.ErrorIs(t, <-polling, sequintest.ErrReset)
		a.send(t, "on.a.new.connection")
	})
}

func TestCloseAnswersLongPollsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		polling := poll(t, srv, dial(srv))
		begin := time.Now()
		srv.Close()
		require.NoError(t, <-polling)
		require.Zero(t, time.Since(begin))

		_, _, err := dial(srv).do("GET", "/api/streams", "")
		require.ErrorIs(t, err, sequintest.ErrRefused)
		srv.CutConnections()
		srv.Up()
		_, _, err = dial(srv).do("GET", "/api/streams", "")
		require.ErrorIs(t, err, sequintest.ErrRefused, "Up does not reopen a closed server")
	})
}

func TestCloseEndsIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		for range 3 {
			dial(srv).send(t, "a") // each leaves an idle connection
		}
		begin := time.Now()
		srv.Close()
		require.Zero(t, time.Since(begin))
	}) // the bubble fails if a goroutine of a connection is left
}

func TestCloseMayBeCalledConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := &spy{}
		srv := newOrders(tb, sequintest.Config{})
		end, _ := stuckSend(t, srv)
		begin := time.Now()
		closed := make(chan time.Duration)
		for range 10 {
			go func() {
				srv.Close()
				closed <- time.Since(begin)
			}()
		}
		for range 10 {
			require.Equal(t, 5*time.Second, <-closed, "no call returns before the shutdown is complete")
		}
		srv.Close()
		require.Len(t, tb.failures, 1, "reported once")
		end()
	})
}

// stuckSend starts a send whose body stays incomplete until end is called.
func stuckSend(t *testing.T, srv *sequintest.Server) (end func(), sent <-chan error) {
	t.Helper()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		resp, err := srv.Client().Post(srv.URL+sendPath, "application/json", r)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	_, err := w.Write([]byte(`{"messages":[`))
	require.NoError(t, err)
	synctest.Wait()
	return func() { _ = w.CloseWithError(errors.New("the test ends the body")) }, done
}

func TestCloseReportsRequestsThatDoNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := &spy{}
		srv := newOrders(tb, sequintest.Config{CloseTimeout: 3 * time.Second})
		end, sent := stuckSend(t, srv)
		time.Sleep(time.Minute)

		begin := time.Now()
		srv.Close()
		require.Equal(t, 3*time.Second, time.Since(begin))
		require.Equal(t, []string{
			"sequintest: POST /api/streams/orders/messages has been running for 1m3s and did not end within 3s of Close",
		}, tb.failures)
		end() // net/http waits until the body has been read
		require.Error(t, <-sent, "its connection was reset")
	})
}

func TestCloseReportsAMatchThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := &spy{}
		srv := sequintest.NewServer(tb, sequintest.Config{})
		stuck := make(chan struct{})
		defer close(stuck)
		srv.Fault(sequintest.Fault{Match: func(*sequintest.Request) bool { <-stuck; return false }})
		go func() { _, _, _ = dial(srv).do("GET", "/api/streams", "") }()
		synctest.Wait()
		srv.Close()
		require.Equal(t, []string{
			"sequintest: GET /api/streams has been running for 5s and did not end within 5s of Close",
			"sequintest: GET /api/streams has been running for 10s and did not end within 5s of Close, its connection gone",
		}, tb.failures)
	})
}

func TestConnectionsAreRefusedOnceCloseHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(&spy{}, sequintest.Config{})
		end, _ := stuckSend(t, srv) // delays Close
		connected := dial(srv)
		connected.send(t, "a")
		go srv.Close()
		synctest.Wait()
		for _, a := range []api{connected, dial(srv)} {
			_, _, err := a.do("GET", "/api/streams", "")
			require.ErrorIs(t, err, sequintest.ErrRefused)
		}
		srv.Close()
		end()
	})
}

func TestDownReportsRequestsThatDoNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := &spy{}
		srv := sequintest.NewServer(tb, sequintest.Config{})
		stuck := make(chan struct{})
		srv.Fault(sequintest.Fault{Op: sequintest.ListStreams, Match: func(*sequintest.Request) bool { <-stuck; return false }})
		go func() { _, _, _ = dial(srv).do("GET", "/api/streams", "") }()
		synctest.Wait()
		srv.Down()
		require.Equal(t, []string{"sequintest: GET /api/streams has been running for 5s and did not end within 5s of Down"}, tb.failures)
		close(stuck)
		tb.cleanup()
		require.Len(t, tb.failures, 1)
	})
}

func TestALongPollEndsWhenItsClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST", srv.URL+idlePath, strings.NewReader(longPoll))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		done := make(chan error, 1)
		go func() {
			_, err := srv.Client().Do(req)
			done <- err
		}()
		synctest.Wait()
		require.Equal(t, 1, waiting(t, srv))
		begin := time.Now()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		synctest.Wait()
		require.Zero(t, waiting(t, srv))
		require.Zero(t, time.Since(begin))
	})
}

func TestClientConnectsToItsOwnServerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		_, err := srv.Client().Get("http://example.com/")
		require.ErrorContains(t, err, "this client connects to http://sequin.test only, not to example.com:80")
	})
}

func TestADialEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		transport := srv.Client().Transport.(*http.Transport)
		c, err := transport.DialContext(ctx, "tcp", "sequin.test:80")
		if err == nil { // the server accepted at once, which is also correct
			require.NoError(t, c.Close())
			return
		}
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestListenServesOnARealPort(t *testing.T) {
	t.Parallel()
	srv := newOrders(t, sequintest.Config{})
	real := api{&http.Client{Transport: &http.Transport{}}, srv.Listen()}
	require.Equal(t, real.base, srv.Listen())
	require.Contains(t, real.base, "http://127.0.0.1:")
	real.send(t, "a")

	lost := srv.Fault(sequintest.Fault{Op: sequintest.Send, CutAfter: true, Count: 1})
	_, _, err := real.do("POST", sendPath, messages("b"))
	require.Error(t, err)
	require.Equal(t, 1, lost.Hits())

	polling := make(chan error, 1)
	arrived := srv.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: time.Hour})
	go func() {
		_, _, err := real.do("POST", idlePath, longPoll)
		polling <- err
	}()
	require.NoError(t, arrived.Wait(t.Context(), 1))
	srv.Down()
	require.ErrorIs(t, <-polling, sequintest.ErrReset)
	_, _, err = real.do("POST", sendPath, messages("refused"))
	require.ErrorIs(t, err, sequintest.ErrRefused)
	srv.Up()
	real.send(t, "c")
	require.Equal(t, []string{"a", "b", "c"}, stored(t, srv))

	srv.Close()
	_, _, err = real.do("GET", "/api/streams", "")
	require.ErrorIs(t, err, sequintest.ErrRefused)
}

func TestListenFailsTheTestOfAClosedServer(t *testing.T) {
	tb := &spy{}
	srv := sequintest.NewServer(tb, sequintest.Config{})
	tb.cleanup()
	require.Equal(t, "sequintest: Listen: the server is closed", fatally(func() { srv.Listen() }))
	require.Empty(t, tb.failures)
}
