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

func TestRedriveSendsDeadLettersBackToWhereTheyCameFrom(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.letters(t)
		sub := w.backlog(t, 250, time.Minute, sequin.SubscriberConfig{})
		var b book
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		w.requireSettled(t, "orders")

		done, err := w.client.Redrive(w.ctx, "dead", "undertaker")
		require.NoError(t, err)
		require.Equal(t, sequin.Redriven{Sent: 250}, done)
		w.requireSettled(t, "dead")
		for i := range 250 {
			require.Equal(t, []string{fmt.Sprint(i), fmt.Sprint(i)}, w.data(t, "orders")[fmt.Sprintf("k.%d", i)])
		}
		done, err = w.client.Redrive(w.ctx, "dead", "undertaker")
		require.NoError(t, err)
		require.Zero(t, done)
	})
}

func TestRedriveKnowsWhatSendingAgainWouldNotDeliver(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		w.letters(t)
		sub := w.backlog(t, 3, time.Minute, sequin.SubscriberConfig{})
		var b book
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		_, err := w.client.SendMessage(w.ctx, "orders", "k.1", "newer")
		require.NoError(t, err)

		done, err := w.client.Redrive(w.ctx, "dead", "undertaker")
		require.ErrorIs(t, err, sequin.ErrUnmodified)
		require.Equal(t, sequin.Redriven{Superseded: 1, Left: 2}, done)
		require.Equal(t, []string{"newer"}, w.data(t, "orders")["k.1"])
		state, _ := w.Stream("dead")
		require.Equal(t, 2, state.Consumers[0].Available, "the others are still there")
	})
}

func TestRedriveKeepsWhatItCannotSendAndSendsTheOthers(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.letters(t)
		w.stream(t, "orders", sequin.ConsumerOptions{})
		letter := func(stream, key, data string) sequin.Message {
			text, err := json.Marshal(sequin.DeadMessage{Stream: stream, Key: key, Data: data})
			require.NoError(t, err)
			return sequin.Message{Key: "dead." + key, Data: string(text)}
		}
		_, err := w.client.SendMessages(w.ctx, "dead", []sequin.Message{
			letter("orders", "a", "1"), letter("gone", "b", "2"), {Key: "scribble", Data: "no letter"}, letter("orders", "c", "3"),
		})
		require.NoError(t, err)
		done, err := w.client.Redrive(w.ctx, "dead", "undertaker")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.ErrorContains(t, err, `"scribble" is no dead letter`)
		require.Equal(t, sequin.Redriven{Sent: 2, Left: 2}, done)
		require.Len(t, w.data(t, "orders"), 2)
		state, _ := w.Stream("dead")
		require.Equal(t, 2, state.Consumers[0].Available)
	})
}

func TestRedriveSortsOutARefusedMessage(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.letters(t)
		sub := w.backlog(t, 10, time.Minute, sequin.SubscriberConfig{})
		var b book
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		refused := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"no"}`, Match: func(r *sequintest.Request) bool {
			return strings.Contains(string(r.Body), `"k.4"`)
		}})
		done, err := w.client.Redrive(w.ctx, "dead", "undertaker")
		require.ErrorIs(t, err, sequin.ErrValidation)
		require.Equal(t, sequin.Redriven{Sent: 9, Left: 1}, done)
		refused.Remove()
		done, err = w.client.Redrive(w.ctx, "dead", "undertaker")
		require.NoError(t, err)
		require.Equal(t, sequin.Redriven{Sent: 1}, done)
		w.requireSettled(t, "dead")
	})
}

func TestRedriveAcksNothingThatIsNotConfirmed(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.letters(t)
		sub := w.backlog(t, 10, time.Minute, sequin.SubscriberConfig{})
		var b book
		run := w.handleFailing(t, sub, &b, sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
		time.Sleep(10 * time.Second)
		require.NoError(t, run.stop())
		acks := w.Count(sequintest.Ack)
		away := w.Fault(sequintest.Fault{Op: sequintest.Send, CutBefore: true})
		done, err := w.client.Redrive(w.ctx, "dead", "undertaker")
		require.Error(t, err)
		require.Equal(t, sequin.Redriven{Left: 10}, done)
		require.Equal(t, acks, w.Count(sequintest.Ack))
		away.Remove()
		done, err = w.client.Redrive(w.ctx, "dead", "undertaker")
		require.NoError(t, err)
		require.Equal(t, sequin.Redriven{Sent: 10}, done)

		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		_, err = w.client.Redrive(ctx, "dead", "undertaker")
		require.ErrorIs(t, err, context.Canceled)
	})
}
