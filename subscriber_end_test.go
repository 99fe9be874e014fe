package sequin_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// A program that closes its Subscriber right after the last ack has a receive that began a moment before. The server ends it.
func TestAStopEndsAReceiveThatHasJustBegun(t *testing.T) {
	inEveryStopOf(t, documentedAlone, func(t *testing.T, w *world, open func(sequin.SubscriberConfig) *sequin.Subscriber, stop func(*sequin.Subscriber) error) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		for _, age := range []time.Duration{0, time.Millisecond, 99 * time.Millisecond, 10 * time.Second} {
			w.send(t, "k.1", "x")
			sub := open(sequin.SubscriberConfig{})
			require.NoError(t, next(t, sub, time.Second).AckSync(w.ctx))
			synctest.Wait()
			time.Sleep(age)
			require.Equal(t, 1, w.consumer(t).Waiting)
			began := time.Now()
			require.NoError(t, stop(sub))
			require.Zero(t, time.Since(began))
			require.Zero(t, w.consumer(t).Waiting)
		}
	})
}

// documentedAlone runs promise in the documented mode, with all extensions.
func documentedAlone(t *testing.T, promise func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("documented", func(t *testing.T) { inDocumented(t, promise) })
}

// Where the receive is ended, and not cancelled, its connection serves the next request.
func TestAStopKeepsTheConnectionOfItsReceive(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		hc, dials := countingDials(w.Server)
		client, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc})
		require.NoError(t, err)
		w.stream(t, "orders", sequin.ConsumerOptions{})
		for range 10 {
			sub := subscribe(t, client, sequin.SubscriberConfig{})
			time.Sleep(time.Second)
			closeNow(t, sub)
		}
		require.EqualValues(t, 2, dials.Load(), "that of the receive and that of the request which ends it")
	})
}

// The message comes at each moment of a stop: before the request to end the receive, while it travels, and after it.
func TestAMessageThatComesDuringAStopIsReturned(t *testing.T) {
	for _, comes := range []time.Duration{0, 10 * time.Millisecond, 19 * time.Millisecond, 20 * time.Millisecond, 21 * time.Millisecond} {
		for _, age := range []time.Duration{0, time.Second} {
			t.Run(fmt.Sprint(comes, " ", age), func(t *testing.T) {
				inDocumented(t, func(t *testing.T, w *world) {
					w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
					w.send(t, "k.0", "x")
					sub := w.subscribe(t, sequin.SubscriberConfig{})
					require.NoError(t, next(t, sub, time.Second).AckSync(w.ctx))
					time.Sleep(age)
					w.Fault(sequintest.Fault{Op: sequintest.EndReceive, Delay: 20 * time.Millisecond})
					closed := make(chan error)
					go func() { closed <- sub.Close(w.ctx) }()
					time.Sleep(comes)
					w.send(t, "k.1", "x")
					require.NoError(t, <-closed)
					synctest.Wait()
					require.Empty(t, w.consumer(t).Outstanding)
					require.Equal(t, 1, w.consumer(t).Available)
				})
			})
		}
	}
}

// The receive is on its way to the server when the stop asks for its end: the stop asks again.
func TestAStopEndsAReceiveThatArrivesAfterTheFirstRequestToEndIt(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.send(t, "k.1", "x")
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 1})
		d := next(t, sub, time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: 7 * time.Millisecond})
		require.NoError(t, d.AckSync(w.ctx))
		synctest.Wait()
		began := time.Now()
		closeNow(t, sub)
		require.Equal(t, 7*time.Millisecond, time.Since(began), "the receive does not wait when it arrives")
		require.Equal(t, 2, w.Count(sequintest.EndReceive), "at once, and after 5 ms")
	})
}

// Where the server does not know the receive, for instance because another one on the same store has it, the stop cancels it after
// 100 ms: in that time the answer arrives that the server may have sent before.
func TestAReceiveThatTheServerDoesNotKnowIsCancelled(t *testing.T) {
	for name, row := range map[string]struct {
		fault sequintest.Fault
		age   time.Duration
		takes time.Duration
		asks  int
	}{
		"young":                {sequintest.Fault{Status: 200, Body: `{"data":{"ended":false}}`}, 0, 101 * time.Millisecond, 5},
		"old":                  {sequintest.Fault{Status: 200, Body: `{"data":{"ended":false}}`}, time.Second, 101 * time.Millisecond, 5},
		"not served":           {sequintest.Fault{Status: 404}, time.Second, 101 * time.Millisecond, 5},
		"an answer of a proxy": {sequintest.Fault{Status: 200, Body: `{}`}, time.Second, 101 * time.Millisecond, 5},
		"lost":                 {sequintest.Fault{CutAfter: true}, time.Second, 0, 1},
		"no answer":            {sequintest.Fault{Delay: time.Hour}, time.Second, 101 * time.Millisecond, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				w.publish(t, "k", 2)
				synctest.Wait()
				for range 2 {
					next(t, sub, time.Second)
				}
				synctest.Wait() // another receive has begun
				time.Sleep(row.age)
				row.fault.Op = sequintest.EndReceive
				w.Fault(row.fault)
				began := time.Now()
				require.NoError(t, sub.CloseNow(w.ctx))
				require.Equal(t, row.takes, time.Since(began))
				require.Equal(t, row.asks, w.Count(sequintest.EndReceive))
				synctest.Wait()
				require.Empty(t, w.consumer(t).Outstanding)
				require.Equal(t, 2, w.consumer(t).Available)
			})
		})
	}
}

// The ctx of Close ends while the request to end the receive hangs.
func TestTheCtxOfCloseEndsTheRequestToEndAReceive(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		client, running := w.counted(t)
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := subscribe(t, client, sequin.SubscriberConfig{})
		time.Sleep(time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.EndReceive, Delay: time.Hour})
		ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
		defer cancel()
		began := time.Now()
		require.NoError(t, sub.Close(ctx))
		require.Equal(t, 21*time.Millisecond, time.Since(began))
		require.Zero(t, running.Load())
	})
}

// Of two servers on one store, behind a balancer, one has the receive. The stop asks until it gets there.
func TestAStopAsksOtherServersOnTheSameStore(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.send(t, "k.1", "x")
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.EndReceive, Status: 200, Body: `{"data":{"ended":false}}`, Count: 2})
		began := time.Now()
		require.NoError(t, sub.Close(w.ctx))
		require.Equal(t, 15*time.Millisecond, time.Since(began))
	})
}

// The answer to a receive takes longer to arrive than that to the stop.
func TestAStopWaitsForAnAnswerThatIsOnItsWay(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
		w.Fault(sequintest.Fault{Op: sequintest.Receive, DelayAfter: 90 * time.Millisecond})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(time.Second)
		w.send(t, "k.1", "x")
		synctest.Wait() // the receive has it
		require.Len(t, w.consumer(t).Outstanding, 1)
		require.NoError(t, sub.Close(w.ctx))
		require.Equal(t, 1, w.consumer(t).Available)
	})
}

// A server that does not announce it is not asked.
func TestAStopAsksOnlyAServerThatCanEndReceives(t *testing.T) {
	asksNothing := func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(time.Second)
		closeNow(t, sub)
		require.Zero(t, w.Count(sequintest.EndReceive))
		require.Zero(t, w.Count(sequintest.Other))
	}
	t.Run("switched off", func(t *testing.T) { inDocumentedWithout(t, []string{"end-receive"}, asksNothing) })
	t.Run("2024", func(t *testing.T) { inMode(t, server.Aug2024, asksNothing) })
}

func TestHooksSeeTheEndOfAReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := hooked(t, sequin.Config{})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(time.Second)
		receive := log.take().started
		closeNow(t, sub)
		end := log.take().started
		require.Equal(t, "receive", receive[len(receive)-1].Op)
		require.Len(t, end, 1)
		require.Equal(t, "end receive", end[0].Op)
		require.Equal(t, []string{"orders", "all"}, []string{end[0].Stream, end[0].Consumer})
		require.Equal(t, 1, end[0].Attempt)
	})
}
