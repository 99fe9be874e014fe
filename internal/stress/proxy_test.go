package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheProxyForwardsResetsAndReplacesAnswers(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }() // until the proxy closes the connection
		}
	}()
	p, err := newProxy(echo.Addr().String())
	require.NoError(t, err)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", p.listener.Addr().String())
		require.NoError(t, err)
		return c
	}
	say := func(c net.Conn) error {
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 5))
		return err
	}
	c := dial()
	defer c.Close()
	require.NoError(t, say(c))
	p.reset()
	require.Error(t, say(c), "the connection was reset")
	again := dial()
	defer again.Close()
	require.NoError(t, say(again), "a new connection works")
	p.replaceAnswers()
	_, err = again.Write([]byte("hello"))
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(again), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, "<html>sorry</html>\r\n", string(body))
	again = dial()
	defer again.Close()
	require.NoError(t, say(again), "only answers on connections of then are replaced")
	require.NoError(t, p.close())
	require.Error(t, say(again))
}
