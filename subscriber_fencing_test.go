package sequin_test

import (
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// On the 2024 server an ack id belongs to the key: a redelivery and a newer version have the same one. A settle that is
// late or is repeated would settle a message that another program is handling.

func TestALateAckDoesNotSettleTheNextVersion(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		a := subscribe(t, w.as(t, "A"), sequin.SubscriberConfig{MaxInFlight: 1})
		w.send(t, "k.1", "version 1")
		first := next(t, a, time.Second)
		w.send(t, "k.1", "version 2")
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Match: by("A"), Status: 503, Body: ownRefusal}) // so that B receives it
		b := subscribe(t, w.as(t, "B"), sequin.SubscriberConfig{})
		second := next(t, b, 10*time.Second)
		require.Equal(t, "version 2", second.Data)
		require.Equal(t, first.AckID, second.AckID)

		require.ErrorIs(t, first.Ack(), sequin.ErrLeaseExpired)
		require.ErrorIs(t, first.Nack(), sequin.ErrLeaseExpired)
		synctest.Wait()
		require.Len(t, w.consumer(t).Outstanding, 1, "B's")
		require.NoError(t, second.AckSync(w.ctx))
		w.requireDone(t)
		closeNow(t, a)
		closeNow(t, b)
	})
}

// losses are the ways to lose the answer to a settle that was carried out.
var losses = map[string]sequintest.Fault{
	"cut":       {CutAfter: true},
	"crash":     {Acted: true, Status: 500, Body: `{"errors":{"detail":"Internal Server Error"}}`},
	"proxy":     {Acted: true, Status: 502, Body: "<html>"},
	"gateway":   {Acted: true, Status: 504, Body: "<html>"},
	"time_out":  {DelayAfter: time.Minute},
	"truncated": {Truncate: 5},
}

func TestAnAckWhoseAnswerWasLostDoesNotSettleTheNextVersion(t *testing.T) {
	for name, loss := range losses {
		for _, sync := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s_sync_%t", name, sync), func(t *testing.T) {
				inMode(t, server.Aug2024, func(t *testing.T, w *world) {
					w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
					reported := make(chan error, 2)
					a := subscribe(t, w.as(t, "A"), sequin.SubscriberConfig{MaxInFlight: 1, OnAckError: func(_ sequin.Delivery, err error) { reported <- err }})
					w.send(t, "k.1", "version 1")
					first := next(t, a, time.Second)
					loss.Op, loss.Match = sequintest.Ack, by("A")
					w.Fault(loss)
					w.Fault(sequintest.Fault{Op: sequintest.Receive, Match: by("A"), Status: 503, Body: ownRefusal})
					if sync {
						require.ErrorIs(t, first.AckSync(w.ctx), sequin.ErrOutcomeUnknown)
					} else {
						require.NoError(t, first.Ack())
						require.ErrorIs(t, <-reported, sequin.ErrOutcomeUnknown)
					}
					require.Equal(t, uint64(1), a.Stats().UnknownOutcomes)
					w.send(t, "k.1", "version 2")
					b := subscribe(t, w.as(t, "B"), sequin.SubscriberConfig{})
					second := next(t, b, time.Second)
					require.Equal(t, "version 2", second.Data)
					require.Less(t, time.Now(), first.Deadline, "within A's lease")

					time.Sleep(time.Until(second.Deadline) - time.Second)
					require.Len(t, w.consumer(t).Outstanding, 1, "version 2 is still leased to B")
					require.Equal(t, 1, w.Count(sequintest.Ack))
					require.Empty(t, reported)
					require.NoError(t, second.AckSync(w.ctx))
					closeNow(t, a)
					closeNow(t, b)
				})
			})
		}
	}
}

func TestANackWhoseAnswerWasLostIsNotRepeated(t *testing.T) {
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			inMode(t, server.Aug2024, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
				reported := make(chan error, 2)
				a := subscribe(t, w.as(t, "A"), sequin.SubscriberConfig{MaxInFlight: 1, OnAckError: func(_ sequin.Delivery, err error) { reported <- err }})
				w.send(t, "k.1", "x")
				first := next(t, a, time.Second)
				loss.Op, loss.Match = sequintest.Nack, by("A")
				w.Fault(loss)
				w.Fault(sequintest.Fault{Op: sequintest.Receive, Match: by("A"), Status: 503, Body: ownRefusal})
				require.NoError(t, first.Nack())
				require.ErrorIs(t, <-reported, sequin.ErrOutcomeUnknown)

				b := subscribe(t, w.as(t, "B"), sequin.SubscriberConfig{})
				second := next(t, b, time.Second)
				require.Equal(t, first.AckID, second.AckID)
				time.Sleep(time.Until(second.Deadline) - time.Second)
				require.Len(t, w.consumer(t).Outstanding, 1, "it is still leased to B")
				require.Equal(t, 1, w.Count(sequintest.Nack))
				require.NoError(t, second.AckSync(w.ctx))
				w.requireDone(t)
				closeNow(t, a)
				closeNow(t, b)
			})
		})
	}
}

// On a stream that appends, a message has no later version, and its ack can be repeated. A lost answer therefore causes no
// duplicate.
func TestOnAnAppendingStreamALostAckIsRepeated(t *testing.T) {
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				w.send(t, "k.1", "x")
				loss.Op, loss.Count = sequintest.Ack, 2
				w.Fault(loss)
				require.NoError(t, next(t, sub, time.Second).AckSync(w.ctx))
				require.Equal(t, 3, w.Count(sequintest.Ack))
				w.requireDone(t)
				closeNow(t, sub)
			})
		})
	}
}

// unfenced runs promise against servers that do not say that an ack id belongs to one delivery.
func unfenced(t *testing.T, promise func(t *testing.T, w *world)) {
	t.Helper()
	for _, mode := range []server.Compat{server.Documented, server.Aug2024} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				promise(t, newWorld(t, sequintest.Config{Compat: mode, WithoutExtensions: []string{"fenced-acks"}}, sequin.Config{}))
			})
		})
	}
}

// The stream keeps one message per key, and the server does not say that an ack id belongs to one delivery.
func TestOnAReplacingStreamALostAckIsNotRepeated(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		"lost":        {CutAfter: true},
		"foreign_503": {Status: 503, Body: "upstream connect error or disconnect/reset before headers", Acted: true},
		"foreign_403": {Status: 403, Body: "<html>"},
	} {
		t.Run(name, func(t *testing.T) {
			unfenced(t, func(t *testing.T, w *world) {
				_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{OneMessagePerKey: true})
				require.NoError(t, err)
				_, err = w.client.CreateConsumer(w.ctx, "orders", "all", ">", sequin.ConsumerOptions{})
				require.NoError(t, err)
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				w.send(t, "k.1", "x")
				fault.Op = sequintest.Ack
				w.Fault(fault)
				require.ErrorIs(t, next(t, sub, time.Second).AckSync(w.ctx), sequin.ErrOutcomeUnknown)
				require.Equal(t, 1, w.Count(sequintest.Ack))
				closeNow(t, sub)
			})
		})
	}
}

// If an ack id belongs to one delivery, a repeated settle cannot settle another one. It is repeated until the deadline.
func TestASettleIsRepeatedIfItsAckIDIsFenced(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		"lost":        {CutAfter: true, Count: 3},
		"foreign_503": {Status: 503, Body: "<html>", Acted: true, Count: 3},
		"foreign_403": {Status: 403, Body: "<html>", Count: 3},
		"page":        {Garble: true, Count: 3},
		"bare_500":    {Status: 500, Body: "{}", Count: 3},
	} {
		for _, op := range []sequintest.Op{sequintest.Ack, sequintest.Nack} {
			t.Run(fmt.Sprintf("%s_%v", name, op), func(t *testing.T) {
				inMode(t, server.Documented, func(t *testing.T, w *world) {
					_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{OneMessagePerKey: true})
					require.NoError(t, err)
					_, err = w.client.CreateConsumer(w.ctx, "orders", "all", ">", sequin.ConsumerOptions{})
					require.NoError(t, err)
					sub := w.subscribe(t, sequin.SubscriberConfig{})
					w.send(t, "k.1", "x")
					fault.Op = op
					w.Fault(fault)
					if d := next(t, sub, time.Second); op == sequintest.Ack {
						require.NoError(t, d.AckSync(w.ctx))
					} else {
						require.NoError(t, d.Nack())
						require.NoError(t, next(t, sub, 10*time.Second).AckSync(w.ctx), "it is redelivered")
					}
					time.Sleep(10 * time.Second)
					require.Equal(t, 4, min(4, w.Count(op)))
					require.Zero(t, sub.Stats().UnknownOutcomes)
					w.requireDone(t)
					closeNow(t, sub)
				})
			})
		}
	}
}

// If the last attempt's answer is lost too, the settle has an unknown outcome.
func TestAFencedSettleThatIsLostUntilItsDeadlineIsUnknown(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.send(t, "k.1", "x")
		w.Fault(sequintest.Fault{Op: sequintest.Ack, CutAfter: true})
		d := next(t, sub, time.Second)
		err := d.AckSync(w.ctx)
		require.ErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.ErrorIs(t, err, sequin.ErrLeaseExpired)
		require.Greater(t, w.Count(sequintest.Ack), 3)
		require.WithinDuration(t, d.Deadline, time.Now(), 2*time.Second)
		closeNow(t, sub)
	})
}

// It is repeated until its lease ends, in either mode.
func TestASettleThatWasNotCarriedOutIsRepeated(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		"unavailable":  {Status: 503, Body: ownRefusal, Count: 3},
		"rate_limited": {Status: 429, Count: 3},
	} {
		for _, op := range []sequintest.Op{sequintest.Ack, sequintest.Nack} {
			t.Run(name+"_"+op.String(), func(t *testing.T) {
				inBothModes(t, func(t *testing.T, w *world) {
					w.stream(t, "orders", sequin.ConsumerOptions{})
					sub := w.subscribe(t, sequin.SubscriberConfig{OnAckError: func(_ sequin.Delivery, err error) { t.Error(err) }})
					w.send(t, "k.1", "x")
					d := next(t, sub, time.Second)
					fault.Op = op
					w.Fault(fault)
					if op == sequintest.Nack {
						require.NoError(t, d.Nack())
						d = next(t, sub, 10*time.Second)
						synctest.Wait()
						require.Equal(t, uint64(1), sub.Stats().Nacked)
					} else {
						require.NoError(t, d.AckSync(w.ctx))
						closeNow(t, sub)
						w.requireDone(t)
						return
					}
					require.NoError(t, d.AckSync(w.ctx))
					closeNow(t, sub)
				})
			})
		}
	}
}

// One in five answers to acks is lost. Where an ack id belongs to one delivery the acks are repeated until the deadline.
func TestLostAnswersToAcksCauseNoDoubtAndNoDuplicateWhereAckIDsAreFenced(t *testing.T) {
	kinds := maps.Clone(losses)
	kinds["not carried out"] = sequintest.Fault{CutBefore: true}
	for name, loss := range kinds {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				const messages = 1000
				_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{OneMessagePerKey: true})
				require.NoError(t, err)
				_, err = w.client.CreateConsumer(w.ctx, "orders", "all", ">", sequin.ConsumerOptions{AckWait: 10 * time.Minute})
				require.NoError(t, err)
				w.publish(t, "k", messages)
				var requests atomic.Int32
				loss.Op, loss.Match = sequintest.Ack, func(*sequintest.Request) bool { return requests.Add(1)%5 == 1 }
				lost := w.Fault(loss)
				sub := w.subscribe(t, sequin.SubscriberConfig{OnAckError: func(d sequin.Delivery, err error) { t.Error(d.Key, err) }})
				for range messages {
					d := next(t, sub, 10*time.Minute)
					require.Equal(t, 1, d.Attempt)
					require.NoError(t, d.Ack())
					time.Sleep(50 * time.Millisecond) // so that there are many requests
				}
				closeNow(t, sub)
				require.Greater(t, lost.Hits(), 5)
				require.Zero(t, sub.Stats().UnknownOutcomes)
				require.Equal(t, uint64(messages), sub.Stats().Acked)
				w.requireDone(t)
			})
		})
	}
}
