package sequin_test

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

func TestATemporaryFailureLosesNoMessage(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		// The server is busy. No number of such answers makes a message fail.
		"409, a full stream": {Status: 409, Body: ownRefusal, Count: 8}, "429": {Status: 429, Count: 8},
		"503": {Status: 503, Body: ownRefusal, Count: 8}, "502 with Retry-After": {Status: 502, Header: http.Header{"Retry-After": {"0"}}, Count: 8},
		// A message may be at fault. The same bytes are sent three times before the first control.
		"connection closed before the request": {CutBefore: true}, "connection closed after the request": {CutAfter: true}, "truncated": {Truncate: 5},
		"garbled": {Garble: true}, "408": {Status: 408}, "unexplained 500": {Status: 500}, "500 with a summary": {Status: 500, Body: `{"summary":"out of disk"}`},
		"502": {Status: 502}, "503 of a proxy": {Status: 503}, "504 of a proxy": {Status: 504, Acted: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				pub := w.orders(t, oneBatch())
				fault.Op, fault.Count = sequintest.Send, max(2, fault.Count)
				w.Fault(fault)
				sendAll(t, pub, 1000)
				require.NoError(t, pub.Close(w.ctx))
				sends := w.Requests(sequintest.Send)
				require.Len(t, sends, fault.Count+1)
				for i, r := range sends {
					require.Equal(t, sends[0].Body, r.Body, "the same bytes")
					require.Equal(t, sends[0].Header.Get("Idempotency-Key"), r.Header.Get("Idempotency-Key"))
					if i > 1 {
						pause := r.At.Sub(sends[i-1].At)
						require.GreaterOrEqual(t, pause, min(50*time.Millisecond<<(i-1), 2500*time.Millisecond), "it backs off")
						require.LessOrEqual(t, pause, min(100*time.Millisecond<<(i-1), 5*time.Second))
					}
				}
				require.Len(t, w.stored(t, "orders"), 1000)
				require.Equal(t, uint64(fault.Count), pub.Stats().Retries)
			})
		})
	}
}

func TestAnOutageLosesNoMessageHoweverLongItLasts(t *testing.T) {
	t.Parallel() // one of the longest
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{MaxBuffered: 100})
		w.Down()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			sendAll(t, pub, 500)
		}()
		time.Sleep(2 * time.Hour)
		require.Equal(t, 100, pub.Stats().Buffered, "the buffer is full and Send waits")
		w.Up()
		<-sent
		require.NoError(t, pub.Close(w.ctx))
		require.Len(t, w.stored(t, "orders"), 500)
	})
}

func TestRetryForBoundsHowLongAMessageIsRetried(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		"unavailable": {Status: 503, Body: ownRefusal}, "unexplained": {Status: 500}, "full": {Status: 409, Body: ownRefusal},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				cfg := oneBatch()
				cfg.RetryFor = 10 * time.Second
				pub := w.orders(t, cfg)
				fault.Op = sequintest.Send
				outage := w.Fault(fault)
				sendAll(t, pub, 1000)
				began := time.Now()
				gone := failed(t, pub.Flush(w.ctx))
				require.Len(t, gone, 1000)
				require.GreaterOrEqual(t, time.Since(began), 10*time.Second)
				require.LessOrEqual(t, time.Since(began), 30*time.Second, "however the batch was split")
				outage.Remove()
				require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "after"}))
				require.NoError(t, pub.Close(w.ctx))
			})
		})
	}
}

func TestAMessageThatTheServerCannotStoreFailsAlone(t *testing.T) {
	for _, row := range []struct {
		name string
		bad  []int
		most int // requests: five for each of ten halvings, 21 for the message, one or two controls for each of these, and the innocent halves
	}{
		{"one", []int{501}, 250},
		{"the first", []int{0}, 250},
		{"two in one batch", []int{10, 990}, 2 * 250},
		{"five in a row", []int{300, 301, 302, 303, 304}, 5 * 250},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				pub := w.orders(t, oneBatch())
				fault := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 500, Match: poisoned})
				sendAll(t, pub, 1000, row.bad...)
				gone := failed(t, pub.Flush(w.ctx))
				require.Len(t, gone, len(row.bad))
				for _, f := range gone {
					require.True(t, strings.HasPrefix(f.Message.Data, "poison"), f.Message.Data)
				}
				require.Len(t, w.stored(t, "orders"), 1000-len(row.bad))
				require.LessOrEqual(t, w.Count(sequintest.Send), row.most)
				require.GreaterOrEqual(t, fault.Hits(), 5+21, "five for the batch, 21 for the message")
				require.NoError(t, pub.Close(w.ctx))
			})
		})
	}
}

// With a single key no other messages show whether the server works. Empty sends do.
func TestAHotKeyWithAPoisonMessageGoesOn(t *testing.T) {
	for _, lanes := range []int{1, 4} {
		inBothModes(t, func(t *testing.T, w *world) {
			pub := w.orders(t, sequin.PublisherConfig{Lanes: lanes})
			w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 500, Match: poisoned})
			require.NoError(t, pub.Send(w.ctx, "hot", "poison"))
			require.NoError(t, pub.Send(w.ctx, "hot", "good 1"))
			require.NoError(t, pub.Send(w.ctx, "hot", "good 2"))
			time.Sleep(time.Second)
			require.Empty(t, w.stored(t, "orders"), "no later version passes it")
			began := time.Now()
			gone := failed(t, pub.Flush(w.ctx))
			require.Len(t, gone, 1)
			require.Equal(t, "poison", gone[0].Message.Data)
			require.Less(t, time.Since(began), 2*time.Minute)
			stored := w.stored(t, "orders")
			require.Equal(t, "good 2", stored["hot"][len(stored["hot"])-1])
			require.NoError(t, pub.Close(w.ctx))
		})
	}
}

func TestAnHourOfUnexplained500sLosesNoMessage(t *testing.T) {
	t.Parallel() // one of the longest
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		fault := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 500})
		sendAll(t, pub, 3000)
		time.Sleep(time.Hour)
		fault.Remove()
		require.NoError(t, pub.Flush(w.ctx))
		require.Len(t, w.stored(t, "orders"), 3000)
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestA413MakesSmallerBatches(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, oneBatch())
		const limit = 10_000 // of a proxy; the batch has about 45,000 bytes
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 413, Body: ownRefusal, Match: func(r *sequintest.Request) bool { return len(r.Body) > limit }})
		require.NoError(t, pub.Send(w.ctx, "large", strings.Repeat("x", limit)))
		sendAll(t, pub, 1000)
		gone := failed(t, pub.Flush(w.ctx))
		require.Len(t, gone, 1, "only what is too large alone")
		require.Equal(t, "large", gone[0].Message.Key)
		require.ErrorIs(t, gone[0], sequin.ErrTooLarge)
		require.Len(t, w.stored(t, "orders"), 1000)
		before := w.Count(sequintest.Send)
		sendAll(t, pub, 1000)
		require.NoError(t, pub.Flush(w.ctx), "a Flush does not linger, whatever was requeued")
		for _, r := range w.Requests(sequintest.Send)[before:] {
			require.Equal(t, 200, r.Status, "the limit is remembered")
		}
		require.NoError(t, pub.Close(w.ctx))
	})
}

// refuser is the transport to a server that answers at once and refuses every batch with poison in it.
type refuser struct {
	status         int
	requests, sent int
}

func (s *refuser) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	_ = r.Body.Close()
	s.requests++
	answer := &http.Response{StatusCode: s.status, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(ownRefusal))}
	if !bytes.Contains(body, []byte("poison")) {
		s.sent += bytes.Count(body, []byte("good"))
		answer.StatusCode, answer.Body = 200, io.NopCloser(strings.NewReader(`{"data":{"published":1}}`))
	}
	return answer, nil
}

// refuse sends 1,000 messages, some of them bad, and returns how many requests that took.
func refuse(t *testing.T, status int, bad ...int) (requests int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := &refuser{status: status}
		client, err := sequin.NewClient(sequin.Config{HTTPClient: &http.Client{Transport: server}})
		require.NoError(t, err)
		pub, err := client.NewPublisher("orders", oneBatch())
		require.NoError(t, err)
		sendAll(t, pub, 1000, bad...)
		if gone := pub.Close(t.Context()); len(bad) > 0 {
			require.Len(t, failed(t, gone), len(bad))
			require.ErrorIs(t, gone, sequin.ErrValidation)
		}
		require.Equal(t, 1000-len(bad), server.sent)
		requests = server.requests
	})
	return requests
}

// bound is how many requests it may take to find k bad messages among 1,000.
func bound(k int) int { return int(2*float64(k)*math.Log2(1000)) + 1 }

func TestOneInvalidMessageIsFoundWhereverItStands(t *testing.T) {
	t.Parallel() // one of the longest
	worst := 0
	for i := range 1000 {
		worst = max(worst, refuse(t, 422, i))
	}
	require.LessOrEqual(t, worst, bound(1))
	t.Logf("at most %d requests of %d", worst, bound(1))
}

func TestInvalidMessagesFailAloneWithinTheBound(t *testing.T) {
	t.Parallel() // one of the longest
	random := rand.New(rand.NewPCG(1, 2))
	for _, k := range []int{0, 2, 3, 5, 10, 30, 100, 300, 999, 1000} {
		t.Run("k="+strconv.Itoa(k), func(t *testing.T) {
			worst := 0
			for range 10 {
				worst = max(worst, refuse(t, 400, random.Perm(1000)[:k]...))
			}
			together := make([]int, k)
			for i := range together {
				together[i] = i
			}
			worst = max(worst, refuse(t, 422, together...))
			if spread := make([]int, k); k > 0 {
				for i := range spread {
					spread[i] = i * (1000 / k)
				}
				worst = max(worst, refuse(t, 422, spread...))
			}
			require.LessOrEqual(t, worst, bound(k))
		})
	}
}
