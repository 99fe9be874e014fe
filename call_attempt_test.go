package sequin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// watched is a connection that calls write instead of its own Write.
type watched struct {
	net.Conn
	write func(c net.Conn, b []byte) (int, error)
}

func (w watched) Write(b []byte) (int, error) { return w.write(w.Conn, b) }

// overWire returns a client whose connections call write for each write.
func (w *world) overWire(t *testing.T, write func(c net.Conn, b []byte) (int, error)) *sequin.Client {
	t.Helper()
	hc := w.Client()
	transport := hc.Transport.(*http.Transport).Clone()
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return watched{c, write}, err
	}
	hc.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc})
	require.NoError(t, err)
	return c
}

func TestASmallRequestIsOneWrite(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		var writes atomic.Int32
		client := w.overWire(t, func(c net.Conn, b []byte) (int, error) {
			writes.Add(1)
			return c.Write(b)
		})
		_, err := client.SendMessage(w.ctx, "orders", "orders.1", "x")
		require.NoError(t, err)
		require.EqualValues(t, 1, writes.Load())
	})
}

func TestARequestThatWasNotWrittenToItsEndIsRepeated(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		var writes atomic.Int32
		client := w.overWire(t, func(c net.Conn, b []byte) (int, error) {
			if writes.Add(1) > 1 {
				return c.Write(b)
			}
			n, err := c.Write(b[:len(b)-1])
			require.NoError(t, err)
			return n, &net.OpError{Op: "write", Net: "tcp", Err: errors.New("broken pipe")}
		})
		require.NoError(t, client.AckMessage(w.ctx, "orders", "all", someID))
		require.EqualValues(t, 2, writes.Load())
	})
}

// The server may close an idle connection just when it is reused. That does not count as an attempt.
func TestARequestOnAClosedConnectionMovesToANewOneWithoutABackoff(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		var writes atomic.Int32
		client := w.overWire(t, func(c net.Conn, b []byte) (int, error) {
			if writes.Add(1) != 2 {
				return c.Write(b)
			}
			require.NoError(t, c.Close())
			time.Sleep(time.Millisecond) // until net/http has noticed
			return 0, errors.New("closed")
		})
		require.NoError(t, client.AckMessage(w.ctx, "orders", "all", someID))
		began := time.Now()
		require.NoError(t, client.AckMessage(w.ctx, "orders", "all", someID))
		require.Less(t, time.Since(began), 50*time.Millisecond, "it was repeated after a backoff")
		require.EqualValues(t, 3, writes.Load())
	})
}

// The first attempt gets a 503, the second one no connection. The outcome is that of the second.
func TestAnAttemptWithoutAConnectionSurelyDidNotAct(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		hc := w.Client()
		transport := hc.Transport.(*http.Transport).Clone()
		transport.MaxConnsPerHost = 1
		hc.Transport = transport
		client, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc})
		require.NoError(t, err)
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: http.StatusServiceUnavailable, Body: ownRefusal, Count: 1})
		w.Fault(sequintest.Fault{Op: sequintest.ListStreams, Delay: 20 * time.Second})
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
		defer cancel()
		time.AfterFunc(time.Millisecond, func() { _, _ = client.ListStreams(w.ctx) }) // takes the connection during the backoff
		err = client.AckMessage(ctx, "orders", "all", someID)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.Equal(t, 1, w.Count(sequintest.Ack))
		time.Sleep(time.Minute)
		transport.CloseIdleConnections()
	})
}

// Only net/http reports how far a request came.
func TestARoundTripperThatCallsNoTraceMayHaveSentTheRequest(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		lost := errors.New("lost")
		tries := 0
		client := w.through(t, func(http.RoundTripper) http.RoundTripper {
			return roundTripper(func(*http.Request) (*http.Response, error) { tries++; return nil, lost })
		})
		err := client.AckMessage(w.ctx, "orders", "all", someID)
		require.ErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.ErrorIs(t, err, lost)
		require.Equal(t, 1, tries)
	})
}

// A server may answer before it has read the body, and go on reading. The body's memory must not be used for the next
// batch until then.
func TestABodyIsNotReusedWhileItIsRead(t *testing.T) {
	const answer = `{"data":{"published":1}}`
	batch := func(letter string) string { return strings.Repeat(letter, 300<<10) } // larger than any buffer on the way

	t.Run("by net/http", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			// The first body is still being written when its connection has been closed.
			goOn := make(chan struct{})
			var taken []byte
			slow := func(c net.Conn, b []byte) (int, error) {
				if len(b) < 16<<10 { // the header and the end of the body
					return c.Write(b)
				}
				<-goOn
				taken = append(taken, b...)
				return len(b), nil
			}
			transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				go func() {
					head := bufio.NewReader(far)
					for line, err := "", error(nil); line != "\r\n" && err == nil; line, err = head.ReadString('\n') {
					}
					_, _ = fmt.Fprintf(far, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
					_, _ = io.Copy(io.Discard, head)
				}()
				c := watched{near, slow}
				slow = net.Conn.Write
				return c, nil
			}}
			sendTwice(t, transport, batch)
			close(goOn)
			synctest.Wait()
			require.Greater(t, len(taken), 200<<10)
			require.NotContains(t, string(taken), "bbb")
			transport.CloseIdleConnections()
		})
	})

	t.Run("by a RoundTripper that calls no trace", func(t *testing.T) {
		var bodies []io.Reader
		sendTwice(t, roundTripper(func(r *http.Request) (*http.Response, error) {
			bodies = append(bodies, r.Body)
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(answer))}, nil
		}), batch)
		body, err := io.ReadAll(bodies[0])
		require.NoError(t, err)
		require.NotContains(t, string(body), "bbb")
	})
}

// sendTwice sends a batch, waits for its answer, and sends another one of the same size.
func sendTwice(t *testing.T, transport http.RoundTripper, batch func(letter string) string) {
	t.Helper()
	client, err := sequin.NewClient(sequin.Config{BaseURL: "http://sequin.test", HTTPClient: &http.Client{Transport: transport}})
	require.NoError(t, err)
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	require.NoError(t, err)
	for _, letter := range []string{"a", "b"} {
		require.NoError(t, pub.SendSync(t.Context(), sequin.Message{Key: "orders.1", Data: batch(letter)}))
	}
	require.NoError(t, pub.Close(t.Context()))
}

// The timeout of an attempt covers the whole answer, not only its header.
func TestAnAnswerThatNeverEndsTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		client := w.through(t, func(behind http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := behind.RoundTrip(r)
				if err == nil {
					resp.Body = endless{resp.Body, r.Context()}
				}
				return resp, err
			})
		})
		_, err := client.ListStreams(w.ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "no answer within 30s")
		require.NoError(t, w.ctx.Err())
	})
}

// endless is a body whose Read blocks until its request is cancelled.
type endless struct {
	io.Closer
	ctx context.Context
}

func (e endless) Read([]byte) (int, error) {
	<-e.ctx.Done()
	return 0, context.Cause(e.ctx)
}
