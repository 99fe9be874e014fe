package sequin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestRedriveSendsMessagesBackToTheirStreams(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 250, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		w.requireSettled(t, "orders")

		done, err := w.client.Redrive(w.ctx, "dead", "reader")
		require.NoError(t, err)
		require.Equal(t, sequin.Redriven{Sent: 250}, done)
		w.requireSettled(t, "dead")
		for i := range 250 {
			require.Equal(t, []string{fmt.Sprint(i), fmt.Sprint(i)}, w.data(t, "orders")[fmt.Sprintf("k.%d", i)])
		}
		done, err = w.client.Redrive(w.ctx, "dead", "reader")
		require.NoError(t, err)
		require.Zero(t, done)
	})
}

func TestRedriveDropsSupersededMessagesAndLeavesUnmodifiedOnes(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 3, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		_, err := w.client.SendMessage(w.ctx, "orders", "k.1", "newer")
		require.NoError(t, err)

		done, err := w.client.Redrive(w.ctx, "dead", "reader")
		require.ErrorIs(t, err, sequin.ErrUnmodified)
		require.Equal(t, sequin.Redriven{Superseded: 1, Left: 2}, done)
		require.Equal(t, []string{"newer"}, w.data(t, "orders")["k.1"])
		state, _ := w.Stream("dead")
		require.Equal(t, 2, state.Consumers[0].Available, "the others are available")
	})
}

func TestRedriveLeavesDeadLettersThatItCannotSendAndSendsTheOthers(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.deadStream(t)
		w.stream(t, "orders", sequin.ConsumerOptions{})
		letter := func(stream, key, data string) sequin.Message {
			text, err := json.Marshal(sequin.DeadMessage{Stream: stream, Key: key, Data: data})
			require.NoError(t, err)
			return sequin.Message{Key: "dead." + key, Data: string(text)}
		}
		_, err := w.client.SendMessages(w.ctx, "dead", []sequin.Message{
			letter("orders", "a", "1"), letter("gone", "b", "2"), letter("orders", "c", "3"),
		})
		require.NoError(t, err)
		done, err := w.client.Redrive(w.ctx, "dead", "reader")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.Equal(t, sequin.Redriven{Sent: 2, Left: 1}, done)
		require.Len(t, w.data(t, "orders"), 2)
		state, _ := w.Stream("dead")
		require.Equal(t, 1, state.Consumers[0].Available)
	})
}

func TestRedriveLeavesTheDeadLettersOfSinks(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.deadStream(t)
		change, err := json.Marshal(sequin.DeadMessage{Sink: "orders-sink", Key: "public.orders.1", Data: "{}"})
		require.NoError(t, err)
		_, err = w.client.SendMessages(w.ctx, "dead", []sequin.Message{{Key: "dead.a", Data: string(change)}})
		require.NoError(t, err)
		done, err := w.client.Redrive(w.ctx, "dead", "reader")
		require.ErrorIs(t, err, sequin.ErrUnsupported)
		require.ErrorContains(t, err, `"dead.a" is a change of the sink "orders-sink"`)
		require.Equal(t, sequin.Redriven{Left: 1}, done)
		state, _ := w.Stream("dead")
		require.Equal(t, 1, state.Consumers[0].Available)
	})
}

// The first 10 messages are then no reason to end.
func TestRedriveSendsDeadLettersBehindThoseOfSinks(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.deadStream(t)
		var batches []string
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Match: func(r *sequintest.Request) bool {
			batches = append(batches, string(r.Body))
			return false
		}})
		var letters []sequin.Message
		for i := range 11 {
			letter := sequin.DeadMessage{Sink: "orders-sink", Key: "public.orders.1", Data: "{}"}
			if i == 10 {
				letter = sequin.DeadMessage{Stream: "orders", Key: "k", Data: "x"}
			}
			text, err := json.Marshal(letter)
			require.NoError(t, err)
			letters = append(letters, sequin.Message{Key: fmt.Sprintf("dead.%d", i), Data: string(text)})
		}
		_, err := w.client.SendMessages(w.ctx, "dead", letters)
		require.NoError(t, err)
		done, err := w.client.Redrive(w.ctx, "dead", "reader")
		require.ErrorIs(t, err, sequin.ErrUnsupported)
		require.Equal(t, sequin.Redriven{Sent: 1, Left: 10}, done)
		require.Contains(t, batches[0], `"batch_size":10`)
		require.Contains(t, batches[1], `"batch_size":100`)
	})
}

// A consumer with a MaxDeliver of 1 must still deliver what a redrive of the wrong stream has received.
func TestRedriveOfAStreamWithoutDeadLettersTakesNothingFromItsConsumer(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{MaxDeliver: 1})
		w.publish(t, "k", 300)
		done, err := w.client.Redrive(w.ctx, "orders", "all")
		require.ErrorIs(t, err, sequin.ErrNotDeadLetter)
		require.ErrorContains(t, err, `the message "k.0" of the stream "orders"`)
		require.Equal(t, sequin.Redriven{Left: 10}, done)
		require.Equal(t, 1, w.Count(sequintest.Receive))
		got, err := w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{BatchSize: 1000})
		require.NoError(t, err)
		require.Len(t, got, 300)
	})
}

func TestRedriveOfAStreamWithoutDeadLettersReceivesFewMessagesOfA2024Server(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 300)
		var nack string
		w.Fault(sequintest.Fault{Op: sequintest.Nack, Match: func(r *sequintest.Request) bool {
			nack = string(r.Body)
			return false
		}})
		_, err := w.client.Redrive(w.ctx, "orders", "all")
		require.ErrorIs(t, err, sequin.ErrNotDeadLetter)
		require.Equal(t, 1, w.Count(sequintest.Receive))
		require.Equal(t, 9, strings.Count(nack, ","), "10 ids, and no member that this server does not know")
	})
}

func TestRedriveLeavesAMessageThatIsNoDeadLetterAndSendsTheOthers(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.sendLetters(t, sequin.ConsumerOptions{MaxDeliver: 1}, 1, "x", "gone", "orders")
		for key, data := range map[string]string{"other": `{"stream":""}`, "another": "not a letter"} {
			_, err := w.client.SendMessage(w.ctx, "dead", key, data)
			require.NoError(t, err)
		}
		text, err := json.Marshal(sequin.DeadMessage{Stream: "orders", Key: "later", Data: "x"})
		require.NoError(t, err)
		_, err = w.client.SendMessage(w.ctx, "dead", "dead.later", string(text))
		require.NoError(t, err)

		done, err := w.client.Redrive(w.ctx, "dead", "all")
		require.ErrorIs(t, err, sequin.ErrNotDeadLetter)
		require.ErrorContains(t, err, `other" of the stream "dead"`)
		require.ErrorIs(t, err, sequin.ErrNotFound, "the other reason is told, too")
		require.Equal(t, sequin.Redriven{Sent: 2, Left: 3}, done)
		require.Len(t, w.data(t, "orders"), 2)
		state, _ := w.Stream("dead")
		require.Equal(t, 3, state.Consumers[0].Available)
	})
}

func TestRedriveLeavesOnlyTheMessageThatIsRefused(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 10, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		refused := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"no"}`, Match: func(r *sequintest.Request) bool {
			return strings.Contains(string(r.Body), `"k.4"`)
		}})
		done, err := w.client.Redrive(w.ctx, "dead", "reader")
		require.ErrorIs(t, err, sequin.ErrValidation)
		require.Equal(t, sequin.Redriven{Sent: 9, Left: 1}, done)
		refused.Remove()
		done, err = w.client.Redrive(w.ctx, "dead", "reader")
		require.NoError(t, err)
		require.Equal(t, sequin.Redriven{Sent: 1}, done)
		w.requireSettled(t, "dead")
	})
}

func TestRedriveAcksNothingThatIsNotConfirmed(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.deadStream(t)
		sub := w.backlog(t, 10, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		acks := w.Count(sequintest.Ack)
		outage := w.Fault(sequintest.Fault{Op: sequintest.Send, CutBefore: true})
		done, err := w.client.Redrive(w.ctx, "dead", "reader")
		require.Error(t, err)
		require.Equal(t, sequin.Redriven{Left: 10}, done)
		require.Equal(t, acks, w.Count(sequintest.Ack))
		outage.Remove()
		done, err = w.client.Redrive(w.ctx, "dead", "reader")
		require.NoError(t, err)
		require.Equal(t, sequin.Redriven{Sent: 10}, done)

		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		_, err = w.client.Redrive(ctx, "dead", "reader")
		require.ErrorIs(t, err, context.Canceled)
	})
}

// sendLetters makes the stream dead and sends n dead letters for each of the streams, one stream after the other.
func (w *world) sendLetters(t *testing.T, opts sequin.ConsumerOptions, n int, data string, streams ...string) {
	t.Helper()
	w.stream(t, "dead", opts)
	for _, stream := range streams {
		for i := range n {
			text, err := json.Marshal(sequin.DeadMessage{Stream: stream, Consumer: "all", Key: fmt.Sprintf("k.%d", i), Data: data})
			require.NoError(t, err)
			_, err = w.client.SendMessage(w.ctx, "dead", fmt.Sprintf("%s.%d", stream, i), string(text))
			require.NoError(t, err)
		}
	}
}

// Dead letters that cannot be sent are redelivered before the others when their leases end, and fill whole answers.
func TestRedriveReachesDeadLettersBehindThoseThatItLeaves(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.sendLetters(t, sequin.ConsumerOptions{AckWait: time.Second}, 250, "x", "gone", "orders")
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: 400 * time.Millisecond}) // the first answer is redelivered with the fourth
		done, err := w.client.Redrive(w.ctx, "dead", "all")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.Equal(t, sequin.Redriven{Sent: 250, Left: 250}, done)
		require.Len(t, w.data(t, "orders"), 250)
		state, _ := w.Stream("dead")
		require.Equal(t, 250, state.Consumers[0].Available, "nacked by their latest ack ids")
	})
}

func TestRedriveEndsAlthoughItsLeasesAreTooShort(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.sendLetters(t, sequin.ConsumerOptions{AckWait: time.Second}, 250, "x", "gone")
		slow := w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: 2 * time.Second})
		done, err := w.client.Redrive(w.ctx, "dead", "all")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.LessOrEqual(t, done.Left, 250)
		require.LessOrEqual(t, slow.Hits(), 10)
	})
}

func TestRedriveReceivesFewerWhenAnAnswerIsTooLarge(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.sendLetters(t, sequin.ConsumerOptions{AckWait: 10 * time.Second}, 120, strings.Repeat("x", 1000), "orders")
		w.client.SetMaxResponse(20_000)
		done, err := w.client.Redrive(w.ctx, "dead", "all")
		require.NoError(t, err)
		require.Equal(t, sequin.Redriven{Sent: 120}, done)
		require.Less(t, w.Count(sequintest.Receive), 40)
		w.requireSettled(t, "dead")
	})
}

func TestRedriveReportsADeadLetterThatIsTooLarge(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.sendLetters(t, sequin.ConsumerOptions{}, 1, strings.Repeat("x", 1000), "orders")
		w.client.SetMaxResponse(900)
		began := time.Now()
		done, err := w.client.Redrive(w.ctx, "dead", "all")
		require.ErrorIs(t, err, sequin.ErrResponseTooLarge)
		require.Zero(t, done)
		require.Less(t, time.Since(began), 5*time.Minute)
	})
}

func TestRedriveWaitsForALostAnswerNoLongerThanItsCtx(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.sendLetters(t, sequin.ConsumerOptions{AckWait: time.Hour}, 30, strings.Repeat("x", 1000), "orders")
		w.client.SetMaxResponse(20_000)
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		_, err := w.client.Redrive(ctx, "dead", "all")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestRedriveWaitsForTheLeasesOfALostAnswer(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		"cut":     {Op: sequintest.Receive, CutAfter: true, Count: 1},
		"garbled": {Op: sequintest.Receive, Garble: true, Count: 1},
		"last":    {Op: sequintest.Receive, CutAfter: true, Skip: 1, Count: 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				w.sendLetters(t, sequin.ConsumerOptions{AckWait: 10 * time.Second}, 120, "x", "orders")
				w.Fault(fault)
				done, err := w.client.Redrive(w.ctx, "dead", "all")
				require.NoError(t, err)
				require.Equal(t, sequin.Redriven{Sent: 120}, done)
				w.requireSettled(t, "dead")
			})
		})
	}
}

func TestRedriveFailsWhenEveryAnswerIsLost(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.sendLetters(t, sequin.ConsumerOptions{}, 1, "x", "orders")
		lost := w.Fault(sequintest.Fault{Op: sequintest.Receive, CutAfter: true})
		_, err := w.client.Redrive(w.ctx, "dead", "all")
		require.ErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.Equal(t, 4, lost.Hits())
	})
}
