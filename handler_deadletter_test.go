package sequin_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// deadStream makes the stream dead with a consumer of everything.
func (w *world) deadStream(t *testing.T) {
	t.Helper()
	_, err := w.client.CreateStream(w.ctx, "dead", sequin.StreamOptions{})
	require.NoError(t, err)
	_, err = w.client.CreateConsumer(w.ctx, "dead", "reader", ">", sequin.ConsumerOptions{})
	require.NoError(t, err)
}

// deadLetters returns the dead letters, decoded, by the keys of the originals.
func (w *world) deadLetters(t *testing.T) map[string][]sequin.DeadMessage {
	t.Helper()
	all := map[string][]sequin.DeadMessage{}
	for key, data := range w.data(t, "dead") {
		for _, d := range data {
			var m sequin.DeadMessage
			require.NoError(t, json.Unmarshal([]byte(d), &m), key)
			all[m.Key] = append(all[m.Key], m)
		}
	}
	return all
}

func (w *world) handleFailing(t *testing.T, sub *sequin.Subscriber, b *callLog, dead sequin.DeadLetter, failure error) *running {
	t.Helper()
	cfg := sequin.HandlerConfig{BackoffMin: time.Second, BackoffMax: 4 * time.Second, DeadLetter: &dead, OnError: b.failed}
	return w.start(t, func(ctx context.Context) error {
		return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
			b.note(d)
			return failure
		})
	})
}

func TestADeadLetterHoldsTheMessageAndItsFailures(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 0, time.Minute, sequin.SubscriberConfig{})
		_, err := w.client.SendMessage(w.ctx, "orders", "orders.7", `{"html":"<b>&"}`)
		require.NoError(t, err)
		var b callLog
		began := time.Now().UTC()
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead", MaxAttempts: 3}, errDown)
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())

		require.Equal(t, 3, b.count())
		data := w.data(t, "dead")
		require.Len(t, data, 1)
		for key, texts := range data {
			require.Regexp(t, `^dead\.all\.[0-9a-f-]{36}$`, key)
			require.Contains(t, texts[0], `\"<b>&\"`, "as short as JSON allows")
		}
		m := w.deadLetters(t)["orders.7"][0]
		require.WithinRange(t, m.FirstFailure, began, began.Add(2*time.Second))
		require.WithinRange(t, m.LastFailure, began.Add(1500*time.Millisecond), began.Add(6*time.Second))
		m.FirstFailure, m.LastFailure = time.Time{}, time.Time{}
		state, _ := w.Stream("orders")
		require.Equal(t, sequin.DeadMessage{Stream: "orders", Consumer: "all", Key: "orders.7", Data: `{"html":"<b>&"}`,
			Seq: state.Messages[0].Seq, Attempts: 3, Error: "the database is down"}, m)
		w.requireSettled(t, "orders")
		require.Len(t, b.reported(), 3, "one report for each failure")
	})
}

func TestNoDeadLetterReplacesAnother(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 20, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		for range 4 {
			time.Sleep(5 * time.Second)
			w.publish(t, "other", 1)
			_, err := w.client.SendMessage(w.ctx, "orders", "k.1", time.Now().String()) // another version
			require.NoError(t, err)
		}
		time.Sleep(5 * time.Second)
		require.NoError(t, run.stop())
		require.Len(t, w.deadLetters(t)["k.1"], 5)
		require.Equal(t, 5, b.times()["k.1"], "a message with a permanent error is not handled again")
		w.requireSettled(t, "orders")
	})
}

func TestAnErrorsTextIsCutAndMadeValid(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 1, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errors.New("\xff\x00"+strings.Repeat("é", 100_000))))
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		m := w.deadLetters(t)["k.0"][0]
		require.True(t, strings.HasPrefix(m.Error, "�\x00é"), "%.10q", m.Error)
		require.Less(t, len(m.Error), 4200)
		w.requireSettled(t, "orders")
	})
}

// While the dead-letter stream is unavailable, or refuses, nothing is acked, and every failure is reported.
func TestAMessageWhoseDeadLetterCannotBeSentIsKept(t *testing.T) {
	t.Parallel() // one of the longest
	for _, tc := range []struct {
		what  string
		dead  sequin.DeadLetter
		fail  func(*world) *sequintest.FaultHandle
		data  string
		is    error
		watch time.Duration
	}{
		{what: "unavailable", dead: sequin.DeadLetter{Stream: "dead"}, data: "x", is: sequin.ErrLeaseExpired, watch: 5 * time.Minute, fail: func(w *world) *sequintest.FaultHandle {
			return w.Fault(sequintest.Fault{Op: sequintest.Send, CutBefore: true})
		}},
		{what: "missing", dead: sequin.DeadLetter{Stream: "missing"}, data: "x", is: sequin.ErrNotFound, watch: time.Minute},
		{what: "refusing", dead: sequin.DeadLetter{Stream: "dead"}, data: "x", is: sequin.ErrUnauthorized, watch: time.Minute, fail: func(w *world) *sequintest.FaultHandle {
			return w.Fault(sequintest.Fault{Op: sequintest.Send, Status: http.StatusForbidden, Body: ownRefusal})
		}},
		{what: "too large", dead: sequin.DeadLetter{Stream: "dead"}, data: strings.Repeat("\"", 2_100_000), is: sequin.ErrTooLarge, watch: 20 * time.Second},
		{what: "invalid key", dead: sequin.DeadLetter{Stream: "dead", Key: func(sequin.Delivery) string { return "" }}, data: "x", is: sequin.ErrInvalidKey, watch: time.Minute},
	} {
		t.Run(tc.what, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.deadStream(t)
				sub := w.backlog(t, 0, 20*time.Second, sequin.SubscriberConfig{})
				_, err := w.client.SendMessage(w.ctx, "orders", "k", tc.data)
				require.NoError(t, err)
				w.hideMissing()
				var fault *sequintest.FaultHandle
				if tc.fail != nil {
					fault = tc.fail(w)
				}
				var b callLog
				run := w.handleFailing(t, sub, &b, tc.dead, sequin.Permanent(errDown))
				time.Sleep(tc.watch)
				require.Zero(t, w.Count(sequintest.Ack), "no message is acked before its dead letter is stored")
				require.Equal(t, 1, b.count(), "its handler is not called again")
				reported := b.reported()
				require.GreaterOrEqual(t, len(reported), 5, "one report for each delivery")
				require.Less(t, len(reported), 100)
				require.ErrorIs(t, reported[len(reported)-1], tc.is)
				require.ErrorContains(t, reported[len(reported)-1], "dead letter of")
				require.Empty(t, w.data(t, "dead"))
				if fault != nil {
					fault.Remove()
					time.Sleep(time.Minute)
					require.Len(t, w.deadLetters(t)["k"], 1)
					require.NoError(t, run.stop())
					w.requireSettled(t, "orders")
					return
				}
				require.NoError(t, run.stop())
			})
		})
	}
}

// A Publisher whose stream is refused sends nothing. The dead letters in its buffer are reported nevertheless.
func TestEveryDeadLetterThatCannotBeSentIsReported(t *testing.T) {
	const n = 40
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, n, 20*time.Second, sequin.SubscriberConfig{})
		w.hideMissing()
		var mu sync.Mutex
		refused := map[string]int{}
		cfg := sequin.HandlerConfig{Workers: 4, BackoffMax: time.Second, DeadLetter: &sequin.DeadLetter{Stream: "missing"},
			OnError: func(d sequin.Delivery, err error) {
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, sequin.ErrNotFound) {
					refused[d.Key]++
				}
			}}
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, cfg, func(context.Context, sequin.Delivery) error { return sequin.Permanent(errDown) })
		})
		time.Sleep(10 * time.Minute)
		require.NoError(t, run.stop())
		require.Len(t, refused, n)
	})
}

func TestADeadLetterWhoseAckComesTooLateIsNotSentTwice(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 1, 4*time.Second, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Send, DelayAfter: 10 * time.Second, Count: 1}) // longer than the lease
		var b callLog
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, 1, b.count())
		require.Len(t, w.deadLetters(t)["k.0"], 1)
		w.requireSettled(t, "orders")
	})
}

func TestAMessageDeliveredTooOftenBecomesADeadLetterWithoutAnotherCall(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.deadStream(t)
		_, consumer := w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Minute})
		w.publish(t, "k", 1)
		for range 6 { // like a process that crashes whenever it gets the message
			got, err := w.client.ReceiveMessage(w.ctx, "orders", consumer.ID)
			require.NoError(t, err)
			require.NoError(t, w.client.NackMessage(w.ctx, "orders", consumer.ID, got.AckID))
		}
		var b callLog
		run := w.handleFailing(t, w.subscribe(t, sequin.SubscriberConfig{}), &b, sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}, errDown)
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		require.Zero(t, b.count(), "this is the seventh delivery, and six are allowed")
		m := w.deadLetters(t)["k.0"][0]
		require.Equal(t, 7, m.Attempts)
		require.Contains(t, m.Error, "delivered 7 times")
		require.False(t, m.LastFailure.IsZero())
		w.requireSettled(t, "orders")
	})
}

func TestAMessageWhoseAcksAreLostDoesNotBecomeADeadLetter(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 3, 4*time.Second, sequin.SubscriberConfig{})
		lost := w.Fault(sequintest.Fault{Op: sequintest.Ack, CutBefore: true})
		var b callLog
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}, nil)
		time.Sleep(time.Minute)
		require.Greater(t, b.times()["k.0"], 10)
		lost.Remove()
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		require.Empty(t, w.deadLetters(t))
		w.requireSettled(t, "orders")
	})
}

// On such a stream a server may count the deliveries of the key, and not those of its current version. One that announces attempts
// and extend does not.
func TestDeliveriesAreNotCountedOnAStreamThatKeepsOneMessagePerKey(t *testing.T) {
	inDocumentedWithout(t, []string{"extend"}, func(t *testing.T, w *world) {
		w.deadStream(t)
		_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{OneMessagePerKey: true})
		require.NoError(t, err)
		consumer, err := w.client.CreateConsumer(w.ctx, "orders", "all", ">", sequin.ConsumerOptions{AckWait: time.Minute})
		require.NoError(t, err)
		w.publish(t, "k", 1)
		for range 6 {
			got, err := w.client.ReceiveMessage(w.ctx, "orders", consumer.ID)
			require.NoError(t, err)
			require.NoError(t, w.client.NackMessage(w.ctx, "orders", consumer.ID, got.AckID))
		}
		var b callLog
		run := w.handleFailing(t, w.subscribe(t, sequin.SubscriberConfig{}), &b, sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}, errDown)
		time.Sleep(20 * time.Second)
		require.NoError(t, run.stop())
		require.Equal(t, 2, b.count())
		require.Equal(t, 2, w.deadLetters(t)["k.0"][0].Attempts)
	})
}

func TestAMessageWhoseHandlerAlwaysOutlivesItsLeaseBecomesADeadLetter(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 1, 4*time.Second, sequin.SubscriberConfig{})
		var b callLog
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.HandlerConfig{MaxHandling: untilDeadline, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 3}, OnError: b.failed}
			return sub.Handle(ctx, cfg, func(ctx context.Context, d sequin.Delivery) error {
				b.note(d)
				<-ctx.Done()
				return ctx.Err()
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, 3, b.count())
		require.Equal(t, "context deadline exceeded", w.deadLetters(t)["k.0"][0].Error)
		require.Len(t, b.reported(), 3, "one for each failed call")
		w.requireSettled(t, "orders")
	})
}

func TestDeadLetterRefusesAConsumerWithMaxDeliver(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{MaxDeliver: 5})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		err := sub.Handle(w.ctx, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead"}}, func(context.Context, sequin.Delivery) error { return nil })
		require.ErrorIs(t, err, sequin.ErrInvalidConfig)
		require.ErrorContains(t, err, "max_deliver is 5")
		require.NoError(t, sub.Close(w.ctx))
	})
}
