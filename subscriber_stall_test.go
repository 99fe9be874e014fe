package sequin_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// withLog runs promise in both modes. warnings returns the lines of the log about a Subscriber that receives nothing.
func withLog(t *testing.T, promise func(t *testing.T, w *world, warnings func() []string)) {
	t.Helper()
	for _, mode := range []server.Compat{server.Documented, server.Aug2024} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				w := newWorld(t, sequintest.Config{Compat: mode}, sequin.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				promise(t, w, func() (found []string) {
					for line := range strings.Lines(log.String()) {
						if strings.Contains(line, "receives nothing") {
							found = append(found, line)
						}
					}
					return found
				})
			})
		})
	}
}

// A second program holds as many deliveries as max_ack_pending allows.
func TestASubscriberThatMaxAckPendingKeepsFromReceivingSaysSoOnce(t *testing.T) {
	withLog(t, func(t *testing.T, w *world, warnings func() []string) {
		for _, waitFor := range []time.Duration{0, 500 * time.Millisecond, time.Minute, 5 * time.Minute} {
			before, requests := len(warnings()), w.Count(sequintest.PeekMessages)
			w.stream(t, "orders", sequin.ConsumerOptions{MaxAckPending: 2, AckWait: time.Hour})
			w.publish(t, "orders", 3)
			held, err := w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})
			require.NoError(t, err)
			require.Len(t, held, 2)
			sub := w.subscribe(t, sequin.SubscriberConfig{WaitFor: waitFor})
			time.Sleep(15 * time.Minute)
			synctest.Wait()
			require.Len(t, warnings(), before+1)
			line := warnings()[before]
			for _, part := range []string{"level=WARN", "stream=orders consumer=all", "key=orders.", "max_ack_pending=2", "MaxAckPending"} {
				require.Contains(t, line, part)
			}
			require.LessOrEqual(t, w.Count(sequintest.PeekMessages)-requests, 15, "at most once a minute")
			closeNow(t, sub)
			require.NoError(t, w.client.DeleteStream(w.ctx, "orders"))
		}
	})
}

// The 2024 server counts acked messages, too, in the first five minutes of a consumer.
func TestEachStallIsLoggedOnce(t *testing.T) {
	inLog := func(t *testing.T, w *world, warnings func() []string) {
		if w.mode != server.Aug2024 {
			return
		}
		w.stream(t, "orders", sequin.ConsumerOptions{MaxAckPending: 2, AckWait: time.Hour})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.publish(t, "orders", 3)
		for range 2 {
			require.NoError(t, next(t, sub, time.Minute).AckSync(w.ctx))
		}
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		require.Len(t, warnings(), 1)
		require.NoError(t, next(t, sub, 2*time.Minute).AckSync(w.ctx), "the five minutes are over")
		w.publish(t, "more", 3)
		held := []sequin.Delivery{next(t, sub, time.Minute), next(t, sub, time.Minute)}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Len(t, warnings(), 2, "another stall, after messages have come")
		for _, d := range held {
			require.NoError(t, d.Ack())
		}
		require.NoError(t, next(t, sub, time.Minute).AckSync(w.ctx))
		closeNow(t, sub)
	}
	withLog(t, inLog)
}

func TestASubscriberThatIsNotStalledDoesNotSaySo(t *testing.T) {
	for name, promise := range map[string]func(t *testing.T, w *world){
		"no messages": func(t *testing.T, w *world) {
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			time.Sleep(15 * time.Minute)
			closeNow(t, sub)
		},
		"all messages are leased": func(t *testing.T, w *world) {
			w.publish(t, "orders", 3)
			_, err := w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})
			require.NoError(t, err)
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			time.Sleep(15 * time.Minute)
			closeNow(t, sub)
		},
		"the program holds all that MaxInFlight allows": func(t *testing.T, w *world) {
			w.publish(t, "orders", 3)
			sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 1})
			d := next(t, sub, time.Minute)
			time.Sleep(15 * time.Minute)
			require.NoError(t, d.Ack())
			require.NoError(t, sub.Close(w.ctx))
		},
		"it polls every ten minutes": func(t *testing.T, w *world) {
			const pause = 20 * time.Minute
			sub := w.subscribe(t, sequin.SubscriberConfig{PollMin: pause, PollMax: pause})
			for range 5 {
				time.Sleep(3 * time.Minute)
				w.publish(t, "orders", 3)
			}
			closeNow(t, sub)
		},
		"other programs receive what it sees": func(t *testing.T, w *world) {
			for i := range 20 {
				w.Fault(sequintest.Fault{Op: sequintest.PeekMessages, Status: 200, Count: 1, Body: fmt.Sprintf(
					`{"data":[{"message":{"key":"k","seq":%d},"info":{"ack_id":"a","deliver_count":%d}}]}`, (i+1)/2, i/2)})
			}
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			time.Sleep(15 * time.Minute)
			closeNow(t, sub)
		},
		"every receive fails after 40 s": func(t *testing.T, w *world) {
			w.publish(t, "orders", 3)
			w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: 40 * time.Second, Status: 503, Body: ownRefusal})
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			time.Sleep(15 * time.Minute)
			closeNow(t, sub)
		},
	} {
		t.Run(name, func(t *testing.T) {
			withLog(t, func(t *testing.T, w *world, warnings func() []string) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
				promise(t, w)
				require.Empty(t, warnings())
				require.LessOrEqual(t, w.Count(sequintest.PeekMessages), 16, "at most once a minute")
			})
		})
	}
}

// A message a minute is enough, also where most receives are answered without one.
func TestASubscriberThatReceivesLooksForNoStall(t *testing.T) {
	withLog(t, func(t *testing.T, w *world, _ func() []string) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		for range 30 {
			w.send(t, "orders.1", time.Now().String()) // the 2024 server does not deliver unchanged data
			require.NoError(t, next(t, sub, time.Minute).AckSync(w.ctx))
			time.Sleep(45 * time.Second)
		}
		require.Zero(t, w.Count(sequintest.PeekMessages))
		closeNow(t, sub)
	})
}

func TestALookForAStallThatHangsDelaysNoChangeOfAckWait(t *testing.T) {
	withLog(t, func(t *testing.T, w *world, _ func() []string) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		w.Fault(sequintest.Fault{Op: sequintest.PeekMessages, Delay: time.Hour})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(10 * time.Minute)
		_, err := w.client.UpdateConsumer(w.ctx, "orders", "all", sequin.ConsumerOptions{AckWait: time.Minute})
		require.NoError(t, err)
		time.Sleep(65 * time.Second)
		w.send(t, "orders.1", "x")
		d := next(t, sub, time.Minute)
		require.Greater(t, time.Until(d.Deadline), 30*time.Second)
		require.NoError(t, d.AckSync(w.ctx))
		closeNow(t, sub)
	})
}
