package sequintest

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// These tests hold states that last microseconds in a running server.

func TestADialThatIsNotAcceptedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		ctx, cancel := context.WithCancel(t.Context())
		dialing := make(chan error)
		dial := func(ctx context.Context) {
			_, err := n.dial(ctx)
			dialing <- err
		}
		go dial(ctx)
		synctest.Wait()
		cancel()
		err := <-dialing
		require.ErrorIs(t, err, context.Canceled)
		var op *net.OpError
		require.ErrorAs(t, err, &op)

		go dial(t.Context())
		synctest.Wait()
		n.end()
		require.ErrorIs(t, <-dialing, errRefused)
		require.Empty(t, n.conns)
	})
}

func TestConnectionsAreRefusedWhenDownOrClosed(t *testing.T) {
	_, late := newConnPair(1)
	n := newNetwork()
	n.setDown(true)
	require.False(t, n.register(late))
	n.setDown(false)
	require.True(t, n.register(late))
	n.forget(late)
	n.end()
	require.False(t, n.register(late))
	_, _, ok := n.connect()
	require.False(t, ok)
}

func TestARequestReadDuringAResetIsNotActedOn(t *testing.T) {
	n := newNetwork()
	_, c, ok := n.connect()
	require.True(t, ok)
	require.True(t, n.startRequest(c, "GET", "/"))
	n.setDown(true)
	require.False(t, n.startRequest(c, "GET", "/"))
	require.False(t, n.startRequest(nil, "GET", "/"), "the connection is not registered")
}

func TestAwaitActiveIgnoresIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		_, c, _ := n.connect()
		n.observe(c, http.StateNew)
		require.Empty(t, n.await(0, active))
		n.observe(c, http.StateActive)
		require.Len(t, n.await(0, active), 1)
		n.observe(c, http.StateIdle)
		require.Empty(t, n.await(0, active))
		require.Len(t, n.await(0, connected), 1)
		n.observe(c, http.StateClosed)
		require.Empty(t, n.await(0, connected))
	})
}

func TestCloseEndsEveryConnection(t *testing.T) {
	n := newNetwork()
	fresh, _, _ := n.connect()
	idle, answered, _ := n.connect()
	busy, hanging, _ := n.connect()
	for _, c := range []*memConn{answered, hanging} {
		n.observe(c, http.StateActive)
		_, err := c.Write([]byte("an answer"))
		require.NoError(t, err)
	}
	n.observe(answered, http.StateIdle)
	n.close()

	_, err := fresh.Write([]byte("x"))
	require.ErrorIs(t, err, errBrokenPipe, "the server has not accepted it yet")
	answer, err := io.ReadAll(idle)
	require.NoError(t, err)
	require.Equal(t, "an answer", string(answer))
	_, err = busy.Read(make([]byte, 1))
	require.ErrorIs(t, err, errReset)
}

func TestTheLoopbackListenerResetsConnectionsWhenDown(t *testing.T) {
	n := newNetwork()
	l, err := listenLoopback("127.0.0.1:0", n)
	require.NoError(t, err)
	n.setDown(true)
	accepting := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepting <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err == nil { // otherwise the reset came before the dial returned
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, errReset)
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-accepting, net.ErrClosed)
}

func TestCloseWaitsForTheListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(t, Config{})
		listener := make(chan struct{})
		srv.listeners.serving = append(srv.listeners.serving, listener)
		closed := make(chan struct{})
		go func() {
			srv.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("Close returned while a listener was still being served")
		default:
		}
		close(listener)
		<-closed
	})
}

func TestAClientReusesItsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(t, Config{})
		client := srv.Client()
		srv.Fault(Fault{Delay: time.Second}) // so that the requests of a round run at the same time
		const together = 50
		for range 3 {
			done := make(chan error)
			for range together {
				go func() {
					resp, err := client.Get(srv.URL + "/api/streams")
					if err == nil {
						_, err = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
					}
					done <- err
				}()
			}
			for range together {
				require.NoError(t, <-done)
			}
			synctest.Wait()
		}
		require.Equal(t, together, srv.network.dialed)
		client.Transport.(*http.Transport).CloseIdleConnections()
	})
}
