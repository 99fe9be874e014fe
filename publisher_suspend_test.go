package sequin_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestAMistypedStreamIsRefusedAtOnceAndServedOnceItExists(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: 1, MaxBatch: 10})
		require.NoError(t, err)
		slow := w.Fault(sequintest.Fault{Op: sequintest.Send, Count: 1, Delay: time.Second})
		require.NoError(t, pub.Send(w.ctx, "first", ""))
		require.NoError(t, slow.Wait(w.ctx, 1))
		for i := range 30 {
			require.NoError(t, pub.Send(w.ctx, "k."+strconv.Itoa(i), ""))
		}
		time.Sleep(time.Second + time.Millisecond)
		require.ErrorIs(t, pub.Send(w.ctx, "later", ""), sequin.ErrNotFound)
		var api *sequin.APIError
		require.ErrorAs(t, pub.TrySend("later", ""), &api)
		time.Sleep(10 * time.Minute)
		require.ErrorIs(t, pub.SendSync(w.ctx, sequin.Message{Key: "later"}), sequin.ErrNotFound)
		batches, checks := w.batches(), w.checks()
		require.Len(t, batches, 1, "no other message is sent")
		require.InDelta(t, 600/3.75, len(checks), 30, "one check at a time, after a backoff")
		require.Equal(t, 30, pub.Stats().Buffered, "what was accepted waits")
		require.ErrorIs(t, pub.Stats().Refusal, sequin.ErrNotFound)

		_, err = w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		time.Sleep(6 * time.Second)
		require.NoError(t, pub.Stats().Refusal)
		require.NoError(t, pub.Send(w.ctx, "later", ""))
		gone := failed(t, pub.Close(w.ctx))
		require.Len(t, gone, 1)
		require.Equal(t, "first", gone[0].Message.Key)
		require.Len(t, w.stored(t, "orders"), 31)
	})
}

func TestARefusalFailsItsWholeBatchAndNothingElse(t *testing.T) {
	for status, sentinel := range map[int]error{401: sequin.ErrUnauthorized, 403: sequin.ErrUnauthorized, 404: sequin.ErrNotFound, 405: nil} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				cfg := oneBatch()
				cfg.MaxBuffered = 3000
				pub := w.orders(t, cfg)
				refusal := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: status, Body: ownRefusal, Delay: time.Second})
				sendAll(t, pub, 2500)
				time.Sleep(time.Minute)
				err := pub.Send(w.ctx, "later", "")
				var api *sequin.APIError
				require.ErrorAs(t, err, &api)
				require.Equal(t, status, api.Status)
				if sentinel != nil {
					require.ErrorIs(t, err, sentinel)
				}
				require.Len(t, w.batches(), 1)
				refusal.Remove()
				gone := failed(t, pub.Flush(w.ctx))
				require.Len(t, gone, 1000)
				require.NoError(t, pub.Send(w.ctx, "later", ""))
				require.NoError(t, pub.Close(w.ctx))
				require.Len(t, w.stored(t, "orders"), 1501)
			})
		})
	}
}

// With a quota on messages, every check succeeds and every batch is refused. A batch must not fail every 100 ms.
func TestAStreamThatRefusesOnlyMessagesIsTriedAfterABackoff(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{Lanes: 1, MaxBatch: 1})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 403, Body: ownRefusal, Delay: time.Second,
			Match: func(r *sequintest.Request) bool { return len(r.Messages()) > 0 }})
		sendAll(t, pub, 500)
		time.Sleep(5*time.Minute + 500*time.Millisecond)
		batches := len(w.batches())
		require.InDelta(t, 300/(1+3.75), batches, 15)
		require.InDelta(t, batches, pub.Stats().Failed, 1, "each fails; one may be in flight")
		require.ErrorIs(t, pub.Close(endedCtx()), sequin.ErrUnauthorized)
	})
}

func TestCloseWhileSuspendedListsWhatWaits(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub, err := w.client.NewPublisher("nowhere", sequin.PublisherConfig{Lanes: 1, MaxBatch: 1})
		require.NoError(t, err)
		w.Fault(sequintest.Fault{Op: sequintest.Send, Count: 1, Delay: time.Second})
		sendAll(t, pub, 3)
		time.Sleep(time.Minute)
		var unsent *sequin.UnsentError
		require.ErrorAs(t, pub.Close(endedCtx()), &unsent)
		require.Len(t, unsent.Failed, 1)
		require.Len(t, unsent.Unsent, 2)
	})
}

// A stream that needs another token also refuses empty sends. No message fails to find out when it accepts sends again.
func TestACheckSpendsNoMessage(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{Lanes: 1, MaxBatch: 1})
		refusal := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 403, Body: ownRefusal})
		require.NoError(t, pub.Send(w.ctx, "a", ""))
		time.Sleep(time.Hour)
		require.ErrorIs(t, pub.Send(w.ctx, "b", ""), sequin.ErrUnauthorized)
		require.Len(t, w.batches(), 1)
		require.InDelta(t, 3600/3.75, len(w.checks()), 100)
		refusal.Remove()
		time.Sleep(6 * time.Second)
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "b"}))
		require.Len(t, failed(t, pub.Close(w.ctx)), 1)
	})
}

// With a wrong URL, Send must return an error instead of filling the buffer. Until the first success, answers that are not
// Sequin's own therefore suspend the Publisher. No message fails, because a proxy may answer although the URL is right.
func TestAForeignRefusalBeforeTheFirstSuccessSuspends(t *testing.T) {
	for _, status := range []int{302, 307, 400, 401, 403, 404, 405, 413, 421} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				pub := w.orders(t, sequin.PublisherConfig{})
				page := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: status, Body: "<html></html>"})
				require.NoError(t, pub.Send(w.ctx, "a", ""))
				time.Sleep(time.Minute)
				var api *sequin.APIError
				require.ErrorAs(t, pub.Send(w.ctx, "b", ""), &api)
				require.Equal(t, status, api.Status)
				require.Len(t, w.batches(), 1)
				page.Remove()
				time.Sleep(6 * time.Second)
				require.NoError(t, pub.Send(w.ctx, "b", ""))
				require.NoError(t, pub.Flush(w.ctx))
				page = w.Fault(sequintest.Fault{Op: sequintest.Send, Status: status, Body: "<html></html>"})
				require.NoError(t, pub.Send(w.ctx, "c", ""))
				time.Sleep(2 * time.Minute)
				require.NoError(t, pub.Send(w.ctx, "d", ""), "the URL is right")
				page.Remove()
				require.NoError(t, pub.Close(w.ctx))
				require.Len(t, w.stored(t, "orders"), 4)
			})
		})
	}
}

func TestRetryForCountsWhileSuspended(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{RetryFor: time.Minute})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 302, Body: "<html></html>"})
		require.NoError(t, pub.Send(w.ctx, "a", ""))
		time.Sleep(50 * time.Second)
		require.Zero(t, pub.Stats().Failed)
		time.Sleep(20 * time.Second)
		require.Equal(t, uint64(1), pub.Stats().Failed)
		require.Len(t, failed(t, pub.Close(w.ctx)), 1)
	})
}

// batches returns the sends with messages, and checks those without.
func (w *world) batches() (sends []sequintest.Request) {
	return w.sends(func(n int) bool { return n > 0 })
}
func (w *world) checks() (sends []sequintest.Request) {
	return w.sends(func(n int) bool { return n == 0 })
}

func (w *world) sends(which func(messages int) bool) (sends []sequintest.Request) {
	for _, r := range w.Requests(sequintest.Send) {
		if which(len(r.Messages())) {
			sends = append(sends, r)
		}
	}
	return sends
}

// repeatedKeys counts the sends with a repeated key.
func (w *world) repeatedKeys() (n int) {
	for _, r := range w.Requests(sequintest.Send) {
		seen := map[string]bool{}
		for _, m := range r.Messages() {
			if seen[m.Key] {
				n++
				break
			}
			seen[m.Key] = true
		}
	}
	return n
}

func TestWhetherTheStreamTakesRepeatedKeysIsAskedOnceAndOnlyIfNeeded(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{MaxBatch: 100})
		sendAll(t, pub, 1000)
		require.NoError(t, pub.Flush(w.ctx))
		require.Zero(t, w.Count(sequintest.GetStream), "no key is repeated")
		w.Fault(sequintest.Fault{Op: sequintest.GetStream, Delay: 100 * time.Millisecond})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Millisecond})
		began := time.Now()
		require.NoError(t, pub.Send(w.ctx, "hot", "0"))
		for i := range 1000 {
			require.NoError(t, pub.Send(w.ctx, "hot", strconv.Itoa(i+1)))
		}
		require.Zero(t, time.Since(began), "no Send waits for the answer")
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, 1, w.Count(sequintest.GetStream))
		if w.mode == server.Aug2024 {
			require.Zero(t, w.repeatedKeys())
		} else {
			require.Positive(t, w.repeatedKeys())
		}
		stored := w.stored(t, "orders")["hot"]
		require.Equal(t, "1000", stored[len(stored)-1])
	})
}

// A batch without repeated keys holds at most as many messages as its lane has keys. One lane has all 1,000 keys; four
// lanes have about 250 each.
func TestRepeatedKeysLeaveBatchesAtLeastHalfFull(t *testing.T) {
	for _, cfg := range []sequin.PublisherConfig{{Lanes: 1}, {Lanes: 4, MaxBatch: 250}} {
		inMode(t, server.Aug2024, func(t *testing.T, w *world) {
			pub := w.orders(t, cfg)
			w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 50 * time.Millisecond})
			random := rand.New(rand.NewPCG(1, 2))
			const n = 60_000
			for i := range n {
				require.NoError(t, pub.Send(w.ctx, "k."+strconv.Itoa(random.IntN(1000)), strconv.Itoa(i)))
			}
			stats := pub.Stats()
			require.NoError(t, pub.Close(w.ctx))
			require.Zero(t, w.repeatedKeys())
			most := float64(max(cfg.MaxBatch, 1000/cfg.Lanes))
			mean := float64(stats.Sent) / float64(stats.Batches)
			t.Logf("%d lanes, batches of at most %.0f: %.0f on average", cfg.Lanes, most, mean)
			require.Greater(t, mean, most/2)
		})
	}
}

func TestAHotKeyIsSentOneMessageARequestWithoutPauses(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 5 * time.Millisecond})
		began := time.Now()
		for i := range 200 {
			require.NoError(t, pub.Send(w.ctx, "hot", strconv.Itoa(i)))
		}
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, time.Second, time.Since(began), "one request after the other without a pause")
		require.Equal(t, 200, w.Count(sequintest.Send))
	})
}
