package sequin_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// slowLink carries that many bytes a second. All connections share it, packet by packet.
func slowLink(rate int) obstacle {
	const packet = 4 << 10
	link := make(chan struct{}, 1)
	return func(r *http.Request, body string) (*http.Response, error) {
		for left := len(body); left > 0; left -= packet {
			select {
			case link <- struct{}{}:
			case <-r.Context().Done():
				return nil, context.Cause(r.Context())
			}
			time.Sleep(packet * time.Second / time.Duration(rate))
			<-link
		}
		return nil, context.Cause(r.Context())
	}
}

func TestBatchesShrinkToWhatASlowLinkCarriesInTime(t *testing.T) {
	for _, row := range []struct {
		lanes, rate int
		timeout     time.Duration
		limit       time.Duration // 3 MB take that long, and as long again until the size is found
	}{
		{4, 100 << 10, 5 * time.Second, 2 * time.Minute},
		{1, 100 << 10, 5 * time.Second, 2 * time.Minute},
		{4, 30 << 10, 30 * time.Second, 10 * time.Minute},
		{16, 20 << 10, 10 * time.Second, 10 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%d lanes, %d B/s, %v", row.lanes, row.rate, row.timeout), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newObstructedWorld(t, sequin.Config{Timeout: row.timeout}, slowLink(row.rate))
				failed := new(failureList)
				pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: row.lanes, OnFailure: failed.add})
				require.NoError(t, err)
				began := time.Now()
				sendUntilAccepted(w.ctx, t, pub, 3000, func(int) string { return strings.Repeat("x", 1000) })
				require.NoError(t, pub.Close(w.ctx))
				require.Empty(t, failed.keys())
				require.Len(t, w.stored(t, "orders"), 3000)
				t.Logf("%v, %+v", time.Since(began), pub.Stats())
				require.Less(t, time.Since(began), row.limit)
			})
		})
	}
}

// Each message alone gets through in time, and those of all lanes together do not. They cannot be cut.
func TestLargeMessagesOfManyLanesGetThroughASlowLink(t *testing.T) {
	for _, row := range []struct {
		lanes, size int
		timeout     time.Duration
	}{
		{4, 60 << 10, 2 * time.Second},
		{16, 60 << 10, 2 * time.Second},
		{16, 1 << 20, 30 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d lanes, %d bytes, %v", row.lanes, row.size, row.timeout), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rate = 100 << 10
				n := 60 * rate / row.size // a minute if the link is always busy
				w := newObstructedWorld(t, sequin.Config{Timeout: row.timeout}, slowLink(rate))
				failed := new(failureList)
				pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: row.lanes, OnFailure: failed.add})
				require.NoError(t, err)
				began := time.Now()
				sendUntilAccepted(w.ctx, t, pub, n, func(int) string { return strings.Repeat("x", row.size) })
				ctx, cancel := context.WithTimeout(w.ctx, time.Hour)
				defer cancel()
				require.NoError(t, pub.Close(ctx))
				require.Empty(t, failed.keys())
				require.Len(t, w.stored(t, "orders"), n)
				require.Less(t, time.Since(began), 10*time.Minute)
			})
		})
	}
}

// A message that takes longer than the time-out on the link does not fail. It waits, and the others are sent.
func TestAMessageThatIsTooLargeForTheLinkFailsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		slow, fast := slowLink(20<<10), false
		w := newObstructedWorld(t, sequin.Config{Timeout: 5 * time.Second}, func(r *http.Request, body string) (*http.Response, error) {
			mu.Lock()
			pass := fast
			mu.Unlock()
			if pass {
				return nil, nil
			}
			return slow(r, body)
		})
		failed := new(failureList)
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{OnFailure: failed.add})
		require.NoError(t, err)
		require.NoError(t, pub.Send(w.ctx, "large", strings.Repeat("x", 300_000)))
		for i := range 600 {
			require.NoError(t, pub.Send(w.ctx, fmt.Sprint("small.", i), "x"))
			time.Sleep(time.Second)
		}
		require.Empty(t, failed.keys())
		require.GreaterOrEqual(t, len(w.stored(t, "orders")), 550, "the others get through")
		mu.Lock()
		fast = true
		mu.Unlock()
		require.NoError(t, pub.Close(w.ctx))
		require.Len(t, w.stored(t, "orders"), 601)
	})
}

func TestBatchesShrinkToWhatAProxyPasses(t *testing.T) {
	for name, wall := range map[string]obstacle{"413": page(413, "<html></html>"), "reset": resets} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const limit = 64 << 10
				w := newObstructedWorld(t, sequin.Config{}, func(r *http.Request, body string) (*http.Response, error) {
					if len(body) > limit {
						return wall(r, body)
					}
					return nil, nil
				})
				failed := new(failureList)
				pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{MaxBatchBytes: 1 << 20, OnFailure: failed.add})
				require.NoError(t, err)
				began := time.Now()
				for i := range 30 {
					sendUntilAccepted(w.ctx, t, pub, 1000, func(int) string { return strings.Repeat("x", 1000) })
					require.NoError(t, pub.Flush(w.ctx), "%d", i)
				}
				require.Less(t, time.Since(began), time.Minute)
				require.Empty(t, failed.keys())
				require.NoError(t, pub.Close(w.ctx))
				require.Len(t, w.stored(t, "orders"), 1000)
				require.Less(t, pub.Stats().Batches, uint64(4000), "parts are not much smaller than they must be")
			})
		})
	}
}

// A proxy resets a connection once and answers 502 to what is too large for it. Empty sends of a batch's size are answered the
// same, so only small ones show that the server works.
func TestABatchThatMetAResetShrinksToWhatAProxyPasses(t *testing.T) {
	for lost := range 4 {
		t.Run(fmt.Sprint("lost=", lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var large atomic.Int32
				w := newObstructedWorld(t, sequin.Config{}, func(r *http.Request, body string) (*http.Response, error) {
					switch {
					case len(body) <= 4096:
						return nil, nil
					case int(large.Add(1)) == lost+1:
						return resets(r, body)
					}
					return page(http.StatusBadGateway, "<html></html>")(r, body)
				})
				pub, err := w.client.NewPublisher("orders", oneBatch())
				require.NoError(t, err)
				for i := range 14 {
					require.NoError(t, pub.Send(w.ctx, fmt.Sprint("k.", i), strings.Repeat("x", 1000)))
				}
				ctx, cancel := context.WithTimeout(w.ctx, 5*time.Minute)
				defer cancel()
				require.NoError(t, pub.Close(ctx))
				require.Len(t, w.stored(t, "orders"), 14)
			})
		})
	}
}

// A message for which a proxy answers 413 even when it is alone fails, after smaller ones have been sent.
func TestAMessageThatAProxyFindsTooLargeFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newObstructedWorld(t, sequin.Config{}, func(r *http.Request, body string) (*http.Response, error) {
			if len(body) > 64<<10 {
				return page(413, "<html></html>")(r, body)
			}
			return nil, nil
		})
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "first"}))
		require.NoError(t, pub.Send(w.ctx, "large", strings.Repeat("x", 100_000)))
		require.NoError(t, pub.Send(w.ctx, "small", "x"))
		gone := failed(t, pub.Flush(w.ctx))
		require.Len(t, gone, 1)
		require.Equal(t, "large", gone[0].Message.Key)
		require.ErrorIs(t, gone[0], sequin.ErrTooLarge)
		require.NoError(t, pub.Close(w.ctx))
	})
}

// The answers to large batches are lost, although the server has stored them. No message is stored twice if the server
// knows parts.
func TestPartsOfAStoredBatchAreNotStoredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{KeepRequests: -1}, sequin.Config{})
		pub := w.orders(t, oneBatch())
		w.Fault(sequintest.Fault{Op: sequintest.Send, CutAfter: true, Match: func(r *sequintest.Request) bool { return len(r.Body) > 3000 }})
		sendAll(t, pub, 1000)
		require.NoError(t, pub.Close(w.ctx))
		for key, versions := range w.stored(t, "orders") {
			require.Len(t, versions, 1, key)
		}
		s, _ := w.Stream("orders")
		require.Len(t, s.Messages, 1000)
		for i, m := range s.Messages {
			require.EqualValues(t, i+1, m.Seq, "it was stored once")
		}
	})
}
