package sequin_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// A message may arrive at any time in a long poll, the lease may be short, and the header for how long the server
// waited may be dropped. The message is delivered once, with time left, and its deadline is a margin before the server's.
func TestAMessageIsDeliveredOnceAndInTime(t *testing.T) {
	t.Parallel() // one of the longest
	for _, lease := range []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second} {
		for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
			"with_header":    func(behind http.RoundTripper) http.RoundTripper { return behind },
			"without_header": withoutWaited,
		} {
			t.Run(fmt.Sprintf("%v_%s", lease, name), func(t *testing.T) {
				inBothModes(t, func(t *testing.T, w *world) {
					w.stream(t, "orders", sequin.ConsumerOptions{AckWait: lease})
					sub := subscribe(t, w.through(t, wrap), sequin.SubscriberConfig{})
					margin := min(lease/4, 2*time.Second)
					for i, moment := range moments(20 * time.Second) {
						time.Sleep(moment)
						key := fmt.Sprintf("k.%d", i)
						w.send(t, key, "x")
						d := next(t, sub, time.Second+time.Millisecond) // PollMax, if the server does not wait
						require.Equal(t, key, d.Key)
						require.GreaterOrEqual(t, time.Until(d.Deadline), margin, "left when it is delivered")
						given := w.consumer(t).Outstanding
						require.Len(t, given, 1)
						require.LessOrEqual(t, d.Deadline.Sub(given[0].Until), -margin, "the end of the lease for the program, and on the server")
						require.NoError(t, d.AckSync(w.ctx))
						w.requireDone(t)
					}
					stats := sub.Stats()
					require.Equal(t, stats.Received, stats.Acked)
					require.Zero(t, stats.ExpiredInBuffer)
					closeNow(t, sub)
				})
			})
		}
	}
}

// moments returns times within a wait: its beginning, its end, and times in between, at an interval that nothing else uses.
func moments(wait time.Duration) (all []time.Duration) {
	for m := time.Duration(0); m < wait; m += 1377 * time.Millisecond {
		all = append(all, m)
	}
	return append(all, time.Millisecond, 499*time.Millisecond, 500*time.Millisecond, wait-time.Millisecond, wait, wait+time.Millisecond)
}

// The margin is half of ack_wait: two margins would be all of it.
func TestTheLargestMarginLeavesTimeToDeliver(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		_, err := w.client.SendMessage(w.ctx, "orders", "orders.1", "{}")
		require.NoError(t, err)
		sub, err := w.client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{LeaseMargin: 5 * time.Second})
		require.NoError(t, err)
		time.Sleep(2 * time.Second) // in the buffer
		d := <-sub.Deliveries()
		require.NoError(t, d.AckSync(w.ctx))
		require.NoError(t, sub.Close(w.ctx))
		require.Equal(t, 1, int(sub.Stats().Received))
	})
}

func TestAMessageThatExpiresInTheBufferIsNotDelivered(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		for pause := range 40 {
			key := fmt.Sprintf("k.%d", pause)
			w.send(t, key, "x")
			time.Sleep(time.Duration(pause) * 497 * time.Millisecond) // up to two and a half leases, at other times than timers
			d := next(t, sub, 2*time.Second)
			require.Equal(t, key, d.Key)
			require.Positive(t, time.Until(d.Deadline.Add(-2*time.Second)), "delivered within its margin, after %v", time.Since(d.InsertedAt))
			require.NoError(t, d.AckSync(w.ctx))
		}
		require.Positive(t, sub.Stats().ExpiredInBuffer)
		require.Equal(t, uint64(40), sub.Stats().HandedOut)
		require.Equal(t, uint64(40), sub.Stats().Acked)
		closeNow(t, sub)
		w.requireDone(t)
	})
}

// The program could not settle messages in time if their answer was delayed for most of the lease.
func TestMessagesThatTravelledTooLongAreNotDelivered(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		w.send(t, "k.1", "x")
		sub := subscribe(t, w.through(t, withSlowBody("/receive", 5*time.Second)), sequin.SubscriberConfig{})
		d := next(t, sub, 7*time.Second)
		require.GreaterOrEqual(t, time.Until(d.Deadline), 2*time.Second)
		require.Equal(t, uint64(2), sub.Stats().Received)
		require.NoError(t, d.AckSync(w.ctx))
		closeNow(t, sub)
	})
}

// Concurrent receives may be answered out of order, so the last message in the channel may be the first whose lease ends.
func TestTheLastMessageInTheChannelIsNotDeliveredTooLate(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		w.publish(t, "first", 4)
		var answers atomic.Int32
		client := w.through(t, func(behind http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := behind.RoundTrip(r)
				if err == nil && strings.HasSuffix(r.URL.Path, "/receive") && answers.Add(1) == 2 {
					resp.Body = &slowBody{resp.Body, r.Context(), 3 * time.Second}
				}
				return resp, err
			})
		})
		sub := subscribe(t, client, sequin.SubscriberConfig{MaxInFlight: 6})
		for range 2 {
			require.NoError(t, next(t, sub, time.Second).Ack())
		}
		time.Sleep(2900 * time.Millisecond) // the second receive has two messages, and a third receive waits
		require.Len(t, w.consumer(t).Outstanding, 2)
		w.publish(t, "later", 2)
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, 4, sub.Stats().InFlight, "both are answered")
		time.Sleep(1500 * time.Millisecond) // too late to deliver those of the second, and not those of the third
		keys := map[string]bool{}
		for range 4 {
			d := next(t, sub, time.Second)
			require.GreaterOrEqual(t, time.Until(d.Deadline), 2*time.Second, d.Key)
			keys[d.Key] = true
			require.NoError(t, d.Ack())
		}
		require.Len(t, keys, 4)
		closeNow(t, sub)
		w.requireDone(t)
	})
}

// A server cannot have waited for longer than its answer took, nor for a negative time. Otherwise the deadline would be
// after the end of the lease, or before its beginning.
func TestAnImpossibleWaitedHeaderIsIgnored(t *testing.T) {
	for _, waited := range []string{"60000", "-60000", "60000000000000", "soon", ""} {
		t.Run(waited, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				sub := subscribe(t, w.through(t, func(behind http.RoundTripper) http.RoundTripper {
					return roundTripper(func(r *http.Request) (*http.Response, error) {
						resp, err := behind.RoundTrip(r)
						if err == nil && strings.HasSuffix(r.URL.Path, "/receive") {
							resp.Header.Set("Sequin-Waited-Ms", waited)
						}
						return resp, err
					})
				}), sequin.SubscriberConfig{})
				time.Sleep(3 * time.Second)
				w.send(t, "k.1", "x")
				d := next(t, sub, time.Second+time.Millisecond)
				given := w.consumer(t).Outstanding
				require.Len(t, given, 1)
				require.LessOrEqual(t, d.Deadline.Sub(given[0].Until), -2*time.Second)
				require.NoError(t, d.AckSync(w.ctx))
				closeNow(t, sub)
			})
		})
	}
}

// A proxy may be added, or an older server deployed. After the first answer without the header, receives wait for a short
// time only. Otherwise a message that arrives late in a wait would be returned again and again.
func TestReceivesWaitForAShortTimeOnceTheServerTellsNoMore(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		var silentNow atomic.Bool
		sub := subscribe(t, w.through(t, func(behind http.RoundTripper) http.RoundTripper {
			silent := withoutWaited(behind)
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if silentNow.Load() {
					return silent.RoundTrip(r)
				}
				return behind.RoundTrip(r)
			})
		}), sequin.SubscriberConfig{})
		time.Sleep(time.Minute)
		silentNow.Store(true)
		time.Sleep(30 * time.Second)
		for range 20 {
			time.Sleep(19 * time.Second)
			w.send(t, "k.1", "x")
			require.NoError(t, next(t, sub, time.Millisecond).AckSync(w.ctx))
		}
		closeNow(t, sub)
	})
}

// The program has not seen a message that was returned from the buffer. The documented server does not count it.
func TestAMessageThatExpiresInTheBufferIsNotCountedAsDelivered(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second, MaxDeliver: 1})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.send(t, "k.1", "x")
		time.Sleep(time.Minute)
		d := next(t, sub, time.Second)
		require.Equal(t, 1, d.Attempt)
		require.NoError(t, d.AckSync(w.ctx))
		closeNow(t, sub)
	})
}

func TestALateSettleIsNotSent(t *testing.T) {
	for name, settle := range map[string]func(sequin.Delivery) error{
		"ack":        sequin.Delivery.Ack,
		"nack":       sequin.Delivery.Nack,
		"ack_sync":   func(d sequin.Delivery) error { return d.AckSync(t.Context()) },
		"nack_after": func(d sequin.Delivery) error { return d.NackAfter(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
				sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 1})
				w.send(t, "k.1", "x")
				d := next(t, sub, time.Second)
				ctx := d.Context()
				time.Sleep(time.Until(d.Deadline) - time.Nanosecond)
				require.NoError(t, ctx.Err())
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				require.Error(t, ctx.Err())
				require.ErrorIs(t, settle(d), sequin.ErrLeaseExpired)
				require.ErrorIs(t, settle(d), sequin.ErrLeaseExpired, "again")
				require.Zero(t, w.Count(sequintest.Ack)+w.Count(sequintest.Nack))
				require.Equal(t, uint64(2), sub.Stats().RefusedLate)
				again := next(t, sub, 10*time.Second)
				require.Equal(t, "k.1", again.Key)
				require.NoError(t, again.AckSync(w.ctx))
				closeNow(t, sub)
			})
		})
	}
}

// The margin is time for the ack's request.
func TestASettleAtTheLastMomentCounts(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.send(t, "k.1", "x")
		d := next(t, sub, time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Delay: 1990 * time.Millisecond}) // of a margin of 2 s
		time.Sleep(time.Until(d.Deadline) - time.Nanosecond)
		require.NoError(t, d.AckSync(w.ctx))
		w.requireDone(t)
		closeNow(t, sub)
	})
}

func TestAChangedAckWaitTakesEffect(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		_, consumer := w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
		sub := w.subscribe(t, sequin.SubscriberConfig{LeaseMargin: 5 * time.Second})
		for i, row := range []struct{ ackWait, margin time.Duration }{
			{30 * time.Second, 5 * time.Second},
			{4 * time.Second, time.Second}, // shorter than twice the config's margin: a quarter
			{40 * time.Second, 5 * time.Second},
			{time.Second, 250 * time.Millisecond},
		} {
			_, err := w.client.UpdateConsumer(w.ctx, "orders", consumer.ID, sequin.ConsumerOptions{AckWait: row.ackWait})
			require.NoError(t, err)
			time.Sleep(time.Minute + time.Second)
			w.send(t, fmt.Sprintf("k.%d", i), "x")
			d := next(t, sub, 2*time.Second)
			until := w.consumer(t).Outstanding[0].Until
			require.InDelta(t, row.margin, until.Sub(d.Deadline), float64(20*time.Millisecond))
			require.NoError(t, d.AckSync(w.ctx))
		}
		_, err := w.client.UpdateConsumer(w.ctx, "orders", consumer.ID, sequin.ConsumerOptions{AckWait: 50 * time.Millisecond})
		require.NoError(t, err)
		time.Sleep(time.Minute + time.Second)
		_, open := <-sub.Deliveries()
		require.False(t, open)
		require.ErrorIs(t, sub.Err(), sequin.ErrLeaseTooShort)
		require.NoError(t, sub.Close(w.ctx))
	})
}

// After an answer without ack_wait the Subscriber does not stop and keeps the last ack_wait.
func TestAnAnswerWithoutAckWaitChangesNothing(t *testing.T) {
	for _, shown := range []string{`{"id":"1","ack_wait_ms":null}`, `{"id":"1"}`} {
		inBothModes(t, func(t *testing.T, w *world) {
			w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 12 * time.Second})
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			reads := w.Fault(sequintest.Fault{Op: sequintest.GetConsumer, Status: 200, Body: shown})
			time.Sleep(3 * time.Minute)
			require.GreaterOrEqual(t, reads.Hits(), 2)
			w.send(t, "k.1", "x")
			d := next(t, sub, time.Second+time.Millisecond)
			require.InDelta(t, 10*time.Second, time.Until(d.Deadline), float64(10*time.Millisecond))
			require.NoError(t, d.AckSync(w.ctx))
			closeNow(t, sub)
		})
	}
}

// A receive that was sent under the old ack_wait may be answered under the new one. The shorter of them counts.
func TestAnAckWaitShortenedDuringALongPollCounts(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		_, consumer := w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
		sub := w.subscribe(t, sequin.SubscriberConfig{WaitFor: 5 * time.Minute})
		time.Sleep(15 * time.Second) // the first receive does not know the header yet; the next waits for five minutes
		_, err := w.client.UpdateConsumer(w.ctx, "orders", consumer.ID, sequin.ConsumerOptions{AckWait: 2 * time.Second})
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		require.Equal(t, 2, w.Count(sequintest.Receive))
		w.send(t, "k.1", "x")
		d := next(t, sub, time.Second)
		require.LessOrEqual(t, time.Until(d.Deadline), 1500*time.Millisecond)
		require.NoError(t, d.AckSync(w.ctx))
		closeNow(t, sub)
	})
}
