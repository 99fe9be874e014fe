package sequintest

import (
	"context"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// The moments below last microseconds in a running server; here they are held still.

func TestADialThatNobodyAcceptsEnds(t *testing.T) {
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
		require.ErrorIs(t, <-dialing, syscall.ECONNREFUSED)
		require.Empty(t, n.conns)
	})
}

func TestAConnectionThatComesTooLate(t *testing.T) {
	_, late := newConnPair(1)
	n := newNetwork()
	n.setDown(true)
	require.False(t, n.admit(late))
	n.setDown(false)
	require.True(t, n.admit(late))
	n.forget(late)
	n.end()
	require.False(t, n.admit(late))
	_, _, ok := n.connect()
	require.False(t, ok)
}

func TestARequestThatWasReadDuringTheCutIsNotActedOn(t *testing.T) {
	n := newNetwork()
	_, c, ok := n.connect()
	require.True(t, ok)
	require.True(t, n.working(c, "GET", "/"))
	n.setDown(true)
	require.False(t, n.working(c, "GET", "/"))
	require.False(t, n.working(nil, "GET", "/"), "nor one of a connection that is forgotten")
}

func TestAnIdleConnectionIsNotWaitedFor(t *testing.T) {
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

func TestCloseReachesEveryConnection(t *testing.T) {
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
	require.ErrorIs(t, err, syscall.EPIPE, "it is not served yet")
	answer, err := io.ReadAll(idle)
	require.NoError(t, err)
	require.Equal(t, "an answer", string(answer))
	_, err = busy.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestTheLoopbackListenerTurnsLateConnectionsAway(t *testing.T) {
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
	if err == nil { // else the reset was quicker than the dial
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-accepting, net.ErrClosed)
}

func TestCloseWaitsForTheListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(t, Config{})
		listener := make(chan struct{})
		srv.serving = append(srv.serving, listener)
		closed := make(chan struct{})
		go func() {
			srv.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("a listener was still served")
		default:
		}
		close(listener)
		<-closed
	})
}
