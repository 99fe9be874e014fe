package sequin_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestAnIdleSubscriberMakesOneRequestPerWaitFor(t *testing.T) {
	for _, waitFor := range []time.Duration{0, 500 * time.Millisecond, 5 * time.Minute} {
		inMode(t, server.Documented, func(t *testing.T, w *world) {
			w.stream(t, "orders", sequin.ConsumerOptions{})
			before := w.Count(sequintest.Any) // before the first receive, which may run as soon as Subscribe returns
			sub := w.subscribe(t, sequin.SubscriberConfig{WaitFor: waitFor})
			const idle = 30 * time.Minute
			time.Sleep(idle + 7*time.Millisecond) // not at the instant at which a wait ends
			synctest.Wait()
			each := max(waitFor, 500*time.Millisecond)
			if waitFor == 0 {
				each = 20 * time.Second
			}
			receives, reads, peeks := w.Count(sequintest.Receive), w.Count(sequintest.GetConsumer), w.Count(sequintest.PeekMessages)
			require.InDelta(t, int(idle/each), receives, 2)
			require.InDelta(t, 32, reads, 3, "once at first, then about once a minute")
			require.Less(t, peeks, reads, "at most one for each of these")
			require.Equal(t, receives+reads+peeks+1, w.Count(sequintest.Any)-before, "and the stream once, and nothing else")
			require.InDelta(t, receives, int(sub.Stats().EmptyPolls), 1)
			closeNow(t, sub)
		})
	}
}

func TestAMessageReachesTheChannelAtOnce(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		for i := range 50 {
			time.Sleep(time.Duration(i) * 777 * time.Millisecond)
			began := time.Now()
			w.send(t, fmt.Sprintf("k.%d", i), "x")
			require.NoError(t, next(t, sub, time.Second).Ack())
			require.Zero(t, time.Since(began))
		}
		closeNow(t, sub)
	})
}

// If the server does not wait, a message is received after PollMax at the latest, and an idle Subscriber short-polls no more
// often than once in PollMax.
func TestTheSubscriberPollsIfTheServerDoesNotWait(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(10 * time.Minute)
		polls := w.Count(sequintest.Receive)
		require.Greater(t, polls, 600)
		require.Less(t, polls, 1250)
		waits := 0
		for _, r := range w.Requests(sequintest.Receive) {
			if strings.Contains(string(r.Body), "wait_for") {
				waits++
			}
		}
		require.LessOrEqual(t, waits, 1, "the Subscriber does not ask again after a refusal")

		w.send(t, "k.1", "x")
		require.NoError(t, next(t, sub, time.Second+time.Millisecond).Ack())
		// After a message the next receive follows soon.
		w.send(t, "k.2", "x")
		require.NoError(t, next(t, sub, 10*time.Millisecond).Ack())

		w.publish(t, "m", 2000)
		began := time.Now()
		for range 2000 {
			require.NoError(t, next(t, sub, time.Second+time.Millisecond).Ack())
		}
		require.Less(t, time.Since(began), 2*time.Second, "back to back while messages come")
		closeNow(t, sub)
	})
}

// The 2024 server returns an empty answer at once while any message is outstanding. A proxy with a time-out of its own
// may do so, too.
func TestEarlyEmptyAnswersAreBackedOff(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		synctest.Wait()
		early := w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 200, Body: `{"data":[]}`})
		time.Sleep(10 * time.Minute)
		require.Greater(t, early.Hits(), 500)
		require.Less(t, early.Hits(), 1250)
		early.Remove()
		w.send(t, "k.1", "x")
		require.NoError(t, next(t, sub, time.Second+time.Millisecond).Ack())
		before := w.Count(sequintest.Receive)
		time.Sleep(10 * time.Minute)
		require.Less(t, w.Count(sequintest.Receive)-before, 40, "it waits again if it can")
		closeNow(t, sub)
	})
}

// Of 100 Subscribers 20 may wait. The others short-poll, so that they get the messages that the 20 do not receive.
func TestManySubscribersShareFewPlacesToWait(t *testing.T) {
	t.Parallel() // one of the longest
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{MaxWaiting: 20})
		var subs []*sequin.Subscriber
		for range 100 {
			subs = append(subs, w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 4}))
		}
		time.Sleep(time.Minute)
		before := w.Count(sequintest.Receive)
		time.Sleep(time.Minute)
		rate := float64(w.Count(sequintest.Receive)-before) / 60
		require.Less(t, rate, 150.0, "requests a second while idle")
		for _, sub := range subs {
			require.NoError(t, sub.Stats().LastError, "a 429 is no error here")
		}

		var group sync.WaitGroup
		for _, sub := range subs {
			group.Go(func() {
				for d := range sub.Deliveries() {
					time.Sleep(500 * time.Millisecond)
					_ = d.Ack()
				}
			})
		}
		before = w.Count(sequintest.Receive)
		w.publish(t, "k", 3000) // 15 s of work for all, 75 s for twenty
		time.Sleep(45 * time.Second)
		w.requireDone(t)
		rate = float64(w.Count(sequintest.Receive)-before) / 45
		require.Less(t, rate, 400.0, "requests a second under load")
		for i, sub := range subs {
			require.Greater(t, int(sub.Stats().Acked), 10, "Subscriber %d gets too little", i)
			closeNow(t, sub)
		}
		group.Wait()
	})
}

// A 429 may have a Retry-After header.
func TestTheRetryAfterOfA429IsHonoured(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		synctest.Wait()
		limited := w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 429, Header: map[string][]string{"Retry-After": {"4"}}})
		time.Sleep(5 * time.Minute)
		require.LessOrEqual(t, limited.Hits(), 75)
		limited.Remove()
		w.send(t, "k.1", "x")
		require.NoError(t, next(t, sub, 6*time.Second).Ack())
		closeNow(t, sub)
	})
}

func TestABatchIsDeliveredInOrderOfSeq(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 32) // the 2024 server stores a batch in reverse, and returns it in reverse
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		last := int64(0)
		for range 32 {
			d := next(t, sub, time.Second)
			require.Greater(t, d.Seq, last)
			last = d.Seq
			require.NoError(t, d.Ack())
		}
		closeNow(t, sub)
	})
}

func TestMoreMessagesThanAskedForAreReturned(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		var all []string
		for i := range 5 {
			all = append(all, fmt.Sprintf(`{"ack_id":"00000000-0000-0000-0000-00000000000%d","message":{"key":"k.%d","data":"x","seq":%d}}`, i, i, i))
		}
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Count: 1, Status: 200, Body: `{"data":[` + strings.Join(all, ",") + `]}`})
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 2, Pollers: 1})
		require.Equal(t, "k.0", next(t, sub, time.Second).Key)
		synctest.Wait()
		var back []string
		for _, r := range w.Requests(sequintest.Nack) {
			require.Contains(t, string(r.Body), `"undelivered":true`)
			back = append(back, r.AckIDs()...)
		}
		require.Len(t, back, 4)
		_ = sub.Close(t.Context())
	})
}

// A third of a short lease is shorter than the shortest wait that a server accepts, so that the Subscriber short-polls
// at first. Once the server has reported how long it waited, the Subscriber waits as long as any other.
func TestASubscriberWithAShortLeaseWaitsOnceTheServerTellsHowLong(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Second})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for _, r := range w.Requests(sequintest.Receive) {
			require.NotEqual(t, http.StatusBadRequest, r.Status, "%s", r.Body)
		}
		require.InDelta(t, 30, w.Count(sequintest.Receive), 3)
		closeNow(t, sub)
	})
}

// A gateway may add a Retry-After to the 429 with which the server refuses one more receive that waits. Receives that do
// not wait are served meanwhile.
func TestA429WithRetryAfterDoesNotKeepMessagesBack(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 429, Body: `{"summary":"too many waiting"}`, Header: http.Header{"Retry-After": {"1"}},
			Match: func(r *sequintest.Request) bool { return strings.Contains(string(r.Body), "wait_for") }})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.publish(t, "k", 10)
		for range 10 {
			require.NoError(t, next(t, sub, 10*time.Second).Ack())
		}
		closeNow(t, sub)
	})
}

// Pollers receives run at once while they return as many messages as they ask for, and never more.
func TestAsManyReceivesAsPollersRunAtOnce(t *testing.T) {
	const n = 20_000 // with fewer, 5 receives of 1,000 take all at once
	for _, pollers := range []int{1, 2, 5} {
		inBothModes(t, func(t *testing.T, w *world) {
			w.stream(t, "orders", spacious)
			w.publish(t, "k", n)
			var running, peak most
			client := w.through(t, func(behind http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					if strings.HasSuffix(r.URL.Path, "/receive") {
						peak.show(int(running.Add(1)))
						defer running.Add(-1)
					}
					return behind.RoundTrip(r)
				})
			})
			sub := subscribe(t, client, sequin.SubscriberConfig{Pollers: pollers})
			w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: 20 * time.Millisecond})
			for range n {
				require.NoError(t, next(t, sub, time.Second+time.Millisecond).Ack())
			}
			require.Equal(t, pollers, int(peak.Load()))
			closeNow(t, sub)
		})
	}
}

// Messages that are too large for one answer are received a few at a time, even if a batch handler wants many. Once they
// are small, many are received at a time again.
func TestMessagesThatAreTooLargeForOneAnswerAreReceived(t *testing.T) {
	const total, most = 100, 9 // most messages fit in one answer
	for name, handle := range map[string]func(ctx context.Context, sub *sequin.Subscriber) error{
		"by one": func(ctx context.Context, sub *sequin.Subscriber) error {
			return sub.Handle(ctx, sequin.HandlerConfig{}, func(context.Context, sequin.Delivery) error { return nil })
		},
		"in batches": func(ctx context.Context, sub *sequin.Subscriber) error {
			cfg := sequin.BatchHandlerConfig{Size: 5 * most, Wait: time.Second}
			return sub.HandleBatch(ctx, cfg, func(context.Context, []sequin.Delivery) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
				for i := range total {
					w.send(t, fmt.Sprintf("large.%d", i), strings.Repeat("x", 10_000))
				}
				w.client.SetMaxResponse(most * 10_500)
				sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: total})
				run := w.start(t, func(ctx context.Context) error { return handle(ctx, sub) })
				time.Sleep(50 * time.Second)
				require.EqualValues(t, total, sub.Stats().Acked)
				time.Sleep(3 * time.Minute) // each minute allows twice as many
				before := w.Count(sequintest.Receive)
				w.publish(t, "small", total)
				time.Sleep(3 * time.Second)
				require.EqualValues(t, 2*total, sub.Stats().Acked)
				largest := 0
				for _, r := range w.Requests(sequintest.Receive)[before:] {
					largest = max(largest, len(r.Deliveries()))
				}
				require.Greater(t, largest, most)
				require.NoError(t, run.stop())
			})
		})
	}
}

// With one poller everything comes in the order of the stream. With more, receives that are answered in another order than
// they were made in reorder different keys.
func TestWithOnePollerAllDeliveriesComeInOrder(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 3000)
		w.Fault(sequintest.Fault{Op: sequintest.Receive, DelayAfter: 50 * time.Millisecond, Match: everySecond()})
		sub := w.subscribe(t, sequin.SubscriberConfig{Pollers: 1})
		last := int64(0)
		for range 3000 {
			d := next(t, sub, time.Second)
			require.Greater(t, d.Seq, last)
			last = d.Seq
			require.NoError(t, d.Ack())
		}
		closeNow(t, sub)
	})
}
