package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestPublisherConfigIsValidated(t *testing.T) {
	client, err := sequin.NewClient(sequin.Config{})
	require.NoError(t, err)
	for _, row := range []struct {
		cfg  sequin.PublisherConfig
		says string
	}{
		{sequin.PublisherConfig{Lanes: -1}, "Lanes is -1"},
		{sequin.PublisherConfig{Lanes: 65}, "must be 1 to 64"},
		{sequin.PublisherConfig{MaxBatch: 1001}, "1 to 1000"},
		{sequin.PublisherConfig{MaxBatchBytes: 1023}, "MaxBatchBytes"},
		{sequin.PublisherConfig{MaxBatchBytes: 8_000_000}, "MaxBatchBytes"},
		{sequin.PublisherConfig{MaxBuffered: -1}, "MaxBuffered"},
		{sequin.PublisherConfig{MaxBufferedBytes: 7_999_999}, "MaxBufferedBytes"},
		{sequin.PublisherConfig{Linger: -1}, "Linger"},
		{sequin.PublisherConfig{RetryFor: -1}, "RetryFor"},
	} {
		_, err := client.NewPublisher("orders", row.cfg)
		require.ErrorIs(t, err, sequin.ErrInvalidConfig)
		require.ErrorContains(t, err, row.says)
	}
	_, err = client.NewPublisher("", sequin.PublisherConfig{})
	require.ErrorIs(t, err, sequin.ErrInvalidArgument)
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	require.NoError(t, err)
	require.NoError(t, pub.Close(t.Context()), "it was never used")
}

func TestSendRefusesInvalidMessagesBeforeTheyJoinABatch(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		large := strings.Repeat("x", 8_000_000)
		require.ErrorIs(t, pub.Send(ended, "", "an invalid key is not looked at"), context.Canceled)
		require.ErrorIs(t, pub.SendSync(ended, sequin.Message{Key: "a"}), context.Canceled)
		_, err := pub.SendReceipt(ended, sequin.Message{Key: "a"})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, pub.Send(w.ctx, "a b", ""), sequin.ErrInvalidKey)
		require.ErrorIs(t, pub.Send(w.ctx, "a", "\xff"), sequin.ErrInvalidData)
		require.ErrorIs(t, pub.TrySend("a", "nul \x00"), sequin.ErrInvalidData)
		err = pub.Send(w.ctx, "a", large)
		require.ErrorIs(t, err, sequin.ErrTooLarge)
		require.ErrorContains(t, err, "8000036 bytes")
		require.ErrorContains(t, err, "8000000")
		require.NoError(t, pub.Send(w.ctx, "a", large[36:]), "the largest that a request can carry")
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, 1, w.Count(sequintest.Send), "only that one was sent")
		require.ErrorIs(t, pub.Send(w.ctx, "a", ""), sequin.ErrClosed)
		require.ErrorIs(t, pub.TrySend("a", ""), sequin.ErrClosed)
	})
}

func TestEveryWayOfSendingTakesAMessage(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		require.NoError(t, pub.SendMessage(w.ctx, sequin.Message{Key: "a", Data: "1"}))
		require.NoError(t, pub.TrySendMessage(sequin.Message{Key: "b", Data: "2"}))
		require.ErrorIs(t, pub.SendMessage(w.ctx, sequin.Message{Key: "a b"}), sequin.ErrInvalidKey)
		require.ErrorIs(t, pub.TrySendMessage(sequin.Message{Key: "a b"}), sequin.ErrInvalidKey)
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, map[string][]string{"a": {"1"}, "b": {"2"}}, w.stored(t, "orders"))
		require.ErrorIs(t, pub.SendMessage(w.ctx, sequin.Message{Key: "a"}), sequin.ErrClosed)
		require.ErrorIs(t, pub.TrySendMessage(sequin.Message{Key: "a"}), sequin.ErrClosed)
	})
}

func TestSendJSONSendsWhatDecodeJSONDecodes(t *testing.T) {
	type order struct {
		Note string `json:"note"`
		Qty  int    `json:"qty"`
	}
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		want := order{Note: `quotes " and <tags> & a NUL: ` + "\x00", Qty: 4}
		require.NoError(t, pub.SendJSON(w.ctx, "a", want))
		err := pub.SendJSON(w.ctx, "a", make(chan int))
		require.ErrorContains(t, err, `encode "a" from chan int`)
		require.ErrorIs(t, pub.SendJSON(w.ctx, "a b", want), sequin.ErrInvalidKey)
		require.NoError(t, pub.Close(w.ctx))
		stored := w.stored(t, "orders")["a"]
		require.Len(t, stored, 1, "a value that does not encode is not sent")
		got, err := sequin.DecodeJSON[order](sequin.Delivery{Key: "a", Data: stored[0]})
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestAnIdlePublisherSendsAtOnce(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{Linger: time.Hour})
		began := time.Now()
		for i := range 3 {
			require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "a", Data: strconv.Itoa(i)}))
		}
		require.Zero(t, time.Since(began), "a SendSync does not linger")
		require.Equal(t, 3, w.Count(sequintest.Send))
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestTrySendNeverWaits(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{MaxBuffered: 10})
		w.Down()
		for i := range 10 {
			require.NoError(t, pub.TrySend("a."+strconv.Itoa(i), ""))
		}
		require.ErrorIs(t, pub.TrySend("b", ""), sequin.ErrBufferFull)
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, pub.Send(ctx, "b", ""), context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(began))
		require.Equal(t, time.Minute, pub.Stats().Blocked)
		w.Up()
		require.NoError(t, pub.Send(w.ctx, "b", ""), "there is room once the server is back")
		require.NoError(t, pub.Close(w.ctx))
		require.Len(t, w.stored(t, "orders"), 11)
	})
}

// Whatever happens to the requests, the versions of a key keep their order, and each message has one result.
func TestVersionsOfAKeyKeepTheirOrderThroughEveryFault(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{MaxBatch: 50, MaxBuffered: 500})
		random := rand.New(rand.NewPCG(1, 2))
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 413, Body: ownRefusal, Match: func(r *sequintest.Request) bool { return len(r.Body) > 1000 }})
		for i := range 60 {
			f := []sequintest.Fault{{CutBefore: true}, {CutAfter: true}, {Status: 503, Body: ownRefusal}, {Status: 502, Acted: true},
				{Status: 500, Body: `{"summary":"busy"}`}, {Garble: true}, {Truncate: 3}, {Status: 429}, {Status: 409, Body: ownRefusal}, {Delay: time.Second}}[random.IntN(10)]
			f.Op, f.Skip, f.Count = sequintest.Send, random.IntN(40), 1+i%3
			w.Fault(f)
		}
		const senders, keys, versions = 5, 20, 30
		var all sync.WaitGroup
		for s := range senders {
			all.Go(func() {
				for v := range versions {
					for k := range keys {
						require.NoError(t, pub.Send(w.ctx, fmt.Sprintf("k.%d.%d", s, k), strconv.Itoa(v)))
					}
				}
			})
		}
		all.Wait()
		require.NoError(t, pub.Close(w.ctx))
		byKey := w.stored(t, "orders")
		require.Len(t, byKey, senders*keys)
		for key, got := range byKey {
			if w.mode == server.Aug2024 { // it keeps only the latest
				require.Equal(t, []string{strconv.Itoa(versions - 1)}, got, key)
				continue
			}
			require.Len(t, got, versions, key) // the Idempotency-Key prevents duplicates
			for v := range versions {
				require.Equal(t, strconv.Itoa(v), got[v], key)
			}
		}
		s := pub.Stats()
		require.Equal(t, uint64(senders*keys*versions), s.Sent)
		require.Equal(t, s.Accepted, s.Sent+s.Failed)
		require.Zero(t, s.BufferedBytes)
		require.Positive(t, s.Retries)
		require.Error(t, s.LastError)
	})
}

func TestCloseListsWhatItLeftInOrderPerKey(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "sent"}))
		w.Down()
		for i := range 100 {
			require.NoError(t, pub.Send(w.ctx, "k."+strconv.Itoa(i%7), strconv.Itoa(i)))
		}
		r, err := pub.SendReceipt(w.ctx, sequin.Message{Key: "k.0", Data: "100"})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		err = pub.Close(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var unsent *sequin.UnsentError
		require.ErrorAs(t, err, &unsent)
		require.Len(t, unsent.Unsent, 101)
		require.ErrorContains(t, err, "101 unsent")
		last := map[string]int{}
		for _, m := range unsent.Unsent {
			n, err := strconv.Atoi(m.Data)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, last[m.Key])
			last[m.Key] = n
		}
		require.ErrorIs(t, r.Err(), sequin.ErrClosed)
		require.Same(t, err, pub.Close(w.ctx), "every Close returns the same value")
		require.Equal(t, 101, pub.Stats().Buffered)
		w.Up()
		again, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		for _, m := range unsent.Unsent {
			require.NoError(t, again.Send(w.ctx, m.Key, m.Data))
		}
		require.NoError(t, again.Close(w.ctx))
		require.Equal(t, "100", w.stored(t, "orders")["k.0"][len(w.stored(t, "orders")["k.0"])-1])
	})
}

func TestCloseLosesNothingConcurrentlyWithSendsAndFlushes(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{MaxBuffered: 100})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 10 * time.Millisecond})
		var mu sync.Mutex
		accepted := map[string]bool{}
		var all sync.WaitGroup
		for s := range 10 {
			all.Go(func() {
				for i := 0; ; i++ {
					key := fmt.Sprintf("k.%d.%d", s, i)
					if err := pub.Send(w.ctx, key, ""); err != nil {
						require.ErrorIs(t, err, sequin.ErrClosed)
						return
					}
					mu.Lock()
					accepted[key] = true
					mu.Unlock()
					if i%50 == 0 {
						require.NoError(t, pub.Flush(w.ctx))
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		for range 3 {
			all.Go(func() { require.NoError(t, pub.Close(w.ctx)) })
		}
		all.Wait()
		require.Len(t, w.stored(t, "orders"), len(accepted))
	})
}

func TestMessagesStayAcceptedWhenFlushGivesUp(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		outage := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: ownRefusal})
		require.NoError(t, pub.Send(w.ctx, "a", "1"))
		ctx, cancel := context.WithTimeoutCause(w.ctx, time.Minute, errors.New("shutting down"))
		defer cancel()
		err := pub.Flush(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "shutting down")
		outage.Remove()
		require.NoError(t, pub.Flush(w.ctx))
		require.Equal(t, []string{"1"}, w.stored(t, "orders")["a"])
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestAStalledRequestDelaysOnlyItsLane(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		stall := w.Fault(sequintest.Fault{Op: sequintest.Send, Count: 1, Delay: 20 * time.Second})
		require.NoError(t, pub.Send(w.ctx, "a", ""))
		require.NoError(t, stall.Wait(w.ctx, 1))
		began, late := time.Now(), 0
		for i := range 40 {
			require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "k." + strconv.Itoa(i)}))
			if time.Since(began) > 0 { // in the lane of "a"
				late++
				break
			}
		}
		require.Equal(t, 1, late)
		require.Equal(t, 20*time.Second, time.Since(began))
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestStatsAddUpAtAnyMoment(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{MaxBatch: 10, OnFailure: func(sequin.MessageError) {}})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned, Delay: 1500 * time.Microsecond})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 2500 * time.Microsecond})
		stop := make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					s := pub.Stats()
					require.Equal(t, s.Accepted, s.Sent+s.Failed+uint64(s.Buffered))
				}
			}
		})
		sendAll(t, pub, 300, 5, 50, 151, 299)
		require.NoError(t, pub.Close(w.ctx))
		close(stop)
		watch.Wait()
		require.Equal(t, uint64(4), pub.Stats().Failed)
		require.Equal(t, uint64(296), pub.Stats().Sent)
	})
}

// A program that closes by an io.Closer has no ctx.
func TestCloseTimeoutBoundsClose(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{CloseTimeout: 3 * time.Second})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: ownRefusal})
		sendAll(t, pub, 3)
		began := time.Now()
		err := pub.Close(context.Background())
		require.Equal(t, 3*time.Second, time.Since(began))
		var unsent *sequin.UnsentError
		require.ErrorAs(t, err, &unsent)
		require.Len(t, unsent.Unsent, 3)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		hasty, err := w.client.NewPublisher("orders", sequin.PublisherConfig{CloseTimeout: time.Hour})
		require.NoError(t, err)
		require.NoError(t, hasty.Send(w.ctx, "k", "x"))
		require.ErrorIs(t, hasty.Close(endedCtx()), context.Canceled)
	})
}
