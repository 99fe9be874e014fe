package sequintest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// inBubble runs f with a new pair of ends in a bubble, which fails when a goroutine waits for ever.
func inBubble(t *testing.T, f func(t *testing.T, client, server *memConn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client, server := newConnPair(1)
		f(t, client, server)
	})
}

// result is what a Read or a Write in another goroutine returned, and when.
type result struct {
	n   int
	err error
	at  time.Time
}

func start(op func([]byte) (int, error), b []byte) <-chan result {
	done := make(chan result, 1)
	go func() {
		n, err := op(b)
		done <- result{n, err, time.Now()}
	}()
	return done
}

func TestBytesArriveCompleteAndInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server *memConn) {
		sent := make([]byte, 5*pipeCapacity+123)
		random := rand.NewChaCha8([32]byte{1})
		_, _ = random.Read(sent)
		go func() {
			sizes := rand.New(rand.NewPCG(1, 2))
			for rest := sent; len(rest) > 0; {
				n, err := client.Write(rest[:min(len(rest), 1+sizes.IntN(10_000))])
				if err != nil {
					panic(err)
				}
				rest = rest[n:]
			}
			_ = client.Close()
		}()
		var got bytes.Buffer
		_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{server}, make([]byte, 777))
		require.NoError(t, err)
		require.Equal(t, sha256.Sum256(sent), sha256.Sum256(got.Bytes()))
	})
}

func TestBothDirectionsWorkAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server *memConn) {
		big := make([]byte, 3*pipeCapacity)
		up, down := start(client.Write, big), start(server.Write, big)
		_, err := io.ReadFull(server, make([]byte, len(big)))
		require.NoError(t, err)
		_, err = io.ReadFull(client, make([]byte, len(big)))
		require.NoError(t, err)
		require.Equal(t, len(big), (<-up).n)
		require.Equal(t, len(big), (<-down).n)
	})
}

func TestWriteWaitsForRoomAndNotForAReader(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server *memConn) {
		n, err := client.Write(make([]byte, pipeCapacity))
		require.NoError(t, err, "the peer has not read yet")
		require.Equal(t, pipeCapacity, n)

		more := start(client.Write, make([]byte, 10))
		synctest.Wait()
		require.Empty(t, more, "the buffer is full")
		_, err = server.Read(make([]byte, 10))
		require.NoError(t, err)
		require.NoError(t, (<-more).err)
	})
}

func TestPeerReadsEOFAfterTheLastByteBeforeClose(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server *memConn) {
		_, err := client.Write([]byte("last words"))
		require.NoError(t, err)
		require.NoError(t, client.Close())
		require.NoError(t, client.Close(), "again")

		got, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, "last words", string(got))
		_, err = server.Write([]byte("too late"))
		require.ErrorIs(t, err, errBrokenPipe)
	})
}

func TestCloseWithUnreadDataIsAReset(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server *memConn) {
		_, _ = client.Write([]byte("a body that is not read"))
		_, _ = server.Write([]byte("413"))
		require.NoError(t, server.Close())

		got, err := io.ReadAll(client)
		require.Equal(t, "413", string(got), "what was written before the close can be read")
		require.ErrorIs(t, err, errReset)
	})
}

func TestCloseWriteStillAllowsReading(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server *memConn) {
		require.NoError(t, server.CloseWrite())
		_, err := client.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		_, err = server.Write([]byte("x"))
		require.ErrorIs(t, err, errBrokenPipe)

		_, err = client.Write([]byte("still read"))
		require.NoError(t, err)
		got := make([]byte, 10)
		_, err = io.ReadFull(server, got)
		require.NoError(t, err)
		require.Equal(t, "still read", string(got))
	})
}

func TestWaitingReadsAndWritesAreWoken(t *testing.T) {
	for _, c := range []struct {
		name  string
		wake  func(client, server *memConn)
		read  error // of the client
		write error // of the client
	}{
		{"by its own Close", func(client, _ *memConn) { _ = client.Close() }, net.ErrClosed, net.ErrClosed},
		{"by the peer's Close", func(_, server *memConn) { _ = server.Close() }, errReset, errBrokenPipe},
		{"by a reset", func(client, _ *memConn) { client.reset() }, errReset, errReset},
		{"by the peer's reset", func(_, server *memConn) { server.reset() }, errReset, errReset},
		{"by a deadline that passes", func(client, _ *memConn) { _ = client.SetDeadline(time.Now().Add(time.Second)) }, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		{"by a deadline in the past", func(client, _ *memConn) { _ = client.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, client, server *memConn) {
				reading := start(client.Read, make([]byte, 1))
				writing := start(client.Write, make([]byte, pipeCapacity+1))
				synctest.Wait()
				require.Empty(t, reading)
				require.Empty(t, writing)

				c.wake(client, server)
				read, wrote := <-reading, <-writing
				require.ErrorIs(t, read.err, c.read)
				require.ErrorIs(t, wrote.err, c.write)
				require.Equal(t, pipeCapacity, wrote.n, "the bytes that were written are counted")

				var explained *net.OpError
				require.ErrorAs(t, read.err, &explained)
				require.Equal(t, errors.Is(c.read, os.ErrDeadlineExceeded), explained.Timeout())
			})
		})
	}
}

func TestAResetLosesDataInTransit(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server *memConn) {
		_, _ = server.Write([]byte("the answer"))
		server.reset()
		n, err := client.Read(make([]byte, 100))
		require.Zero(t, n)
		require.ErrorIs(t, err, errReset)
		require.NoError(t, client.Close())
		_, err = client.Read(nil)
		require.ErrorIs(t, err, net.ErrClosed, "its own Close takes precedence")
	})
}

func TestAResetReachesTheClientFirst(t *testing.T) {
	client, server := newConnPair(1)
	done := make(chan struct{})
	server.in.mu.Lock() // the server cannot notice the reset yet
	go func() {
		server.reset()
		close(done)
	}()
	require.NoError(t, client.SetReadDeadline(time.Now().Add(10*time.Second))) // so that a failure does not hang
	_, err := client.Read(make([]byte, 1))
	server.in.mu.Unlock()
	require.ErrorIs(t, err, errReset)
	<-done
}

func TestDeadlinesCanBeMoved(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server *memConn) {
		begin := time.Now()
		require.NoError(t, client.SetReadDeadline(begin.Add(time.Second)))
		reading := start(client.Read, make([]byte, 1))
		time.Sleep(500 * time.Millisecond)
		require.NoError(t, client.SetReadDeadline(begin.Add(3*time.Second)))
		read := <-reading
		require.ErrorIs(t, read.err, os.ErrDeadlineExceeded)
		require.Equal(t, 3*time.Second, read.at.Sub(begin))

		// A deadline in the past prevents the reading of unread bytes; without it they can be read.
		_, _ = server.Write([]byte("x"))
		_, err := client.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, client.SetReadDeadline(time.Time{}))
		n, err := client.Read(make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 1, n)

		// A deadline can be moved to an earlier time.
		require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Hour)))
		reading = start(client.Read, make([]byte, 1))
		synctest.Wait()
		begin = time.Now()
		require.NoError(t, client.SetReadDeadline(begin.Add(time.Minute)))
		require.Equal(t, time.Minute, (<-reading).at.Sub(begin))
	})
}

func TestReadAndWriteDeadlinesAreIndependent(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server *memConn) {
		require.NoError(t, client.SetReadDeadline(time.Unix(1, 0)))
		_, err := client.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, client.SetWriteDeadline(time.Unix(1, 0)))
		_, err = client.Write(nil)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		n, err := server.Read(make([]byte, 2))
		require.NoError(t, err, "the other end has no deadline")
		require.Equal(t, 1, n)
		require.NoError(t, client.SetReadDeadline(time.Time{}))
		_, err = server.Write([]byte("y"))
		require.NoError(t, err)
		_, err = client.Read(make([]byte, 1))
		require.NoError(t, err)
	})
}

func TestBothEndsAgreeOnTheirAddresses(t *testing.T) {
	client, server := newConnPair(7)
	require.Equal(t, "client:7", client.LocalAddr().String())
	require.Equal(t, client.LocalAddr(), server.RemoteAddr())
	require.Equal(t, "server:80", server.LocalAddr().String())
	require.Equal(t, server.LocalAddr(), client.RemoteAddr())
	require.Equal(t, "memory", client.LocalAddr().Network())
}
