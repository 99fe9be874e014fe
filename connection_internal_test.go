//go:build go1.26

// Before Go 1.26 net/http keeps channels of its HTTP/2 server in a pool that bubbles of testing/synctest share, and panics
// when a second bubble gets one.

package sequin

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// pipes is a listener in memory, for the transport that NewClient makes. In a synctest bubble its time is virtual.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	dials    atomic.Int32
	cut      atomic.Int32                       // requests whose connection the server has closed
	dialTime time.Duration                      // of each dial
	serve    func(n int32, c net.Conn) net.Conn // takes the n-th connection, or changes it; nil changes none
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	time.Sleep(p.dialTime)
	near, far := net.Pipe()
	n := p.dials.Add(1)
	if p.serve != nil {
		far = p.serve(n, far)
	}
	if far != nil {
		p.conns <- far
	}
	return near, nil
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// overTLS runs promise with a Client's own transport and a server over TLS, in a synctest bubble. For the stream "forbidden"
// a firewall answers, and for the stream "cut" nobody.
func overTLS(t *testing.T, http2 bool, cfg Config, p *pipes, promise func(t *testing.T, c *Client, web *httptest.Server)) {
	t.Helper()
	if http2 && !http2InBubbles {
		t.Skip("HTTP/2 does not run in a bubble before Go 1.26")
	}
	api := server.New(server.Config{})
	defer api.Close()
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/streams/forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "/api/streams/cut":
			p.cut.Add(1)
			panic(http.ErrAbortHandler)
		default:
			api.ServeHTTP(w, r)
		}
	}))
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.Listener.Close()
	web.Listener, web.EnableHTTP2 = p, http2
	web.StartTLS()
	defer web.Close()
	cfg.BaseURL = "https://example.com"
	c, err := NewClient(cfg)
	require.NoError(t, err)
	c.own.TLSClientConfig = &tls.Config{RootCAs: web.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	c.own.DialContext = p.dial
	defer c.Close()
	promise(t, c, web)
}

func TestASlowConnectionIsWaitedFor(t *testing.T) {
	require.Equal(t, 30*time.Second, newDialer(30*time.Second).Timeout)
	for name, p := range map[string]*pipes{"dial": {dialTime: 4 * time.Second}, "handshake": {serve: func(_ int32, c net.Conn) net.Conn {
		return &slowStart{Conn: c, delay: 4 * time.Second}
	}}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p.conns, p.closed = make(chan net.Conn), make(chan struct{})
				overTLS(t, true, Config{Retry: RetryConfig{MaxAttempts: 1}}, p, func(t *testing.T, c *Client, _ *httptest.Server) {
					began := time.Now()
					_, err := c.ListStreams(t.Context())
					require.NoError(t, err)
					require.Equal(t, 4*time.Second, time.Since(began))
				})
			})
		})
	}
}

// A stream of HTTP/2 ends without its connection, which carries the other requests of the Client.
func TestAHTTP2ConnectionIsUsedAgainAfterAForeignAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		overTLS(t, true, Config{}, p, func(t *testing.T, c *Client, _ *httptest.Server) {
			_, err := c.GetStream(t.Context(), "forbidden")
			require.True(t, classify(err).foreign)
			_, err = c.ListStreams(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 1, p.dials.Load())
		})
	})
}

// A server with TLS may speak HTTP/1 only. Its first answer tells.
func TestNetHTTPDoesNotRepeatAReadByItselfOverTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		overTLS(t, false, Config{Retry: RetryConfig{MaxAttempts: 1}}, p, func(t *testing.T, c *Client, _ *httptest.Server) {
			_, err := c.ListStreams(t.Context())
			require.NoError(t, err)
			synctest.Wait() // the connection is idle, and is reused
			_, err = c.GetStream(t.Context(), "cut")
			require.Equal(t, kindLost, classify(err).kind)
			require.EqualValues(t, 1, p.cut.Load())
			require.EqualValues(t, 1, p.dials.Load())
		})
	})
}

// slowStart is a connection whose first bytes arrive late.
type slowStart struct {
	net.Conn
	delay time.Duration
}

func (c *slowStart) Read(b []byte) (int, error) {
	time.Sleep(c.delay)
	c.delay = 0
	return c.Conn.Read(b)
}

// Proxies close a connection that has been idle for 60 s. A request that is written just then would be lost.
func TestAnIdleConnectionIsDroppedBeforeProxiesDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		overTLS(t, false, Config{}, p, func(t *testing.T, c *Client, _ *httptest.Server) {
			for _, row := range []struct {
				idle  time.Duration
				dials int32
			}{{0, 1}, {54 * time.Second, 1}, {56 * time.Second, 2}} {
				time.Sleep(row.idle)
				_, err := c.ListStreams(t.Context())
				require.NoError(t, err)
				require.Equal(t, row.dials, p.dials.Load())
			}
		})
	})
}

// deaf is a connection that from some moment on neither receives nor sends, without an error: a cable was cut.
type deaf struct {
	net.Conn
	dead chan struct{}
}

func (c *deaf) isDead() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

func (c *deaf) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.isDead() && err == nil {
		return c.Read(b) // what arrives is lost
	}
	return n, err
}

func (c *deaf) Write(b []byte) (int, error) {
	if c.isDead() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func TestADeadHTTP2ConnectionIsNoticedWithin15Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := make(chan struct{})
		p := newPipes()
		p.serve = func(n int32, c net.Conn) net.Conn {
			if n > 1 {
				return c
			}
			return &deaf{Conn: c, dead: dead}
		}
		overTLS(t, true, Config{}, p, func(t *testing.T, c *Client, _ *httptest.Server) {
			_, err := c.ListStreams(t.Context())
			require.NoError(t, err)
			close(dead)
			began := time.Now()
			_, err = c.ListStreams(t.Context())
			require.NoError(t, err, "the second attempt has a connection of its own")
			require.LessOrEqual(t, time.Since(began), 15*time.Second)
			require.Greater(t, time.Since(began), 5*time.Second, "the connection was not dead")
			require.EqualValues(t, 2, p.dials.Load())
		})
	})
}

// goAwayTime is how long goAway takes. net/http offers a new connection to other requests a moment after it has given it to the
// one that it was dialled for. A connection that has ended by then would be given to the repeated request, which dials again.
const goAwayTime = time.Millisecond

// goAway is a HTTP/2 server that ends its connection at the first request, and has processed nothing.
func goAway(c net.Conn, cfg *tls.Config) {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2"}
	s := tls.Server(c, cfg)
	defer s.Close()
	if _, err := io.ReadFull(s, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	const settings, headers, frameHead = 4, 1, 9
	answers := make(chan []byte, 2)
	defer close(answers)
	go func() { // a pipe has no buffer, and the client may be writing
		for frame := range answers {
			if frame[3] != settings {
				time.Sleep(goAwayTime)
			}
			_, _ = s.Write(frame)
		}
	}()
	answers <- []byte{0, 0, 0, settings, 0, 0, 0, 0, 0}
	for gone := false; ; {
		var head [frameHead]byte
		if _, err := io.ReadFull(s, head[:]); err != nil {
			return
		}
		length := binary.BigEndian.Uint32(head[:]) >> 8
		if _, err := io.CopyN(io.Discard, s, int64(length)); err != nil {
			return
		}
		if head[3] == headers && !gone {
			gone = true
			answers <- []byte{0, 0, 8, 7, 0, 0, 0, 0, 0 /* last stream */, 0, 0, 0, 0 /* no error */, 0, 0, 0, 0}
		}
	}
}

// A server that is being replaced says with GOAWAY which requests it has not processed.
func TestARequestThatAGOAWAYLeftUnprocessedIsSentAgainAtOnce(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, c *Client) error{
		"send": func(ctx context.Context, c *Client) error { _, err := c.SendMessage(ctx, "s", "k", "1"); return err },
		"list": func(ctx context.Context, c *Client) error { _, err := c.ListStreams(ctx); return err },
		"create": func(ctx context.Context, c *Client) error {
			_, err := c.CreateStream(ctx, "t", StreamOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipes()
				var cfg *tls.Config
				p.serve = func(n int32, c net.Conn) net.Conn {
					if n != 2 {
						return c
					}
					go goAway(c, cfg)
					return nil
				}
				overTLS(t, true, Config{Retry: RetryConfig{MaxAttempts: 1}}, p, func(t *testing.T, c *Client, web *httptest.Server) {
					cfg = web.TLS
					_, err := c.CreateStream(t.Context(), "s", StreamOptions{})
					require.NoError(t, err)
					c.Close() // the idle connection
					synctest.Wait()
					began := time.Now()
					require.NoError(t, call(t.Context(), c))
					require.Equal(t, goAwayTime, time.Since(began))
					require.EqualValues(t, 3, p.dials.Load())
				})
			})
		})
	}
}
