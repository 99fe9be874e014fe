package server_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestOneMessagePerKeyReplacesByKey(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream(`,"one_message_per_key":true`, "")
	require.Equal(t, 3, a.send("a=1", "b=1", "a=2"), "within a request the last one wins, and each that differs from the one before counts")
	require.Equal(t, []string{"b=1", "a=2"}, messages(t, a))
	require.Equal(t, 0, a.send("a=2", "b=1"), "the same data is no change")
	require.Equal(t, []string{"b=1", "a=2"}, a.receive(`{"batch_size":10}`).pairs())
}

func TestProcessUnmodifiedMakesTheSameDataAChange(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream(`,"one_message_per_key":true,"process_unmodified":true`, "")
	require.Equal(t, 2, a.send("a=1", "a=1"))
	a.ack(a.receive(`{}`))
	require.Equal(t, 1, a.send("a=1"))
	require.Equal(t, []string{"a=1"}, a.receive(`{}`).pairs())
}

func TestAReplacementIsWithheldUntilTheLeaseOfTheOldVersionEnds(t *testing.T) {
	for name, end := range map[string]func(a *api, old deliveries){
		"ack":    func(a *api, old deliveries) { a.ack(old) },
		"nack":   func(a *api, old deliveries) { a.nack(old) },
		"expiry": func(*api, deliveries) { time.Sleep(10 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, `,"one_message_per_key":true`, "", func(t *testing.T, a *api) {
				a.send("a=1")
				old := a.receive(`{}`)
				a.send("a=2")
				require.Empty(t, a.receive(`{"batch_size":10}`))
				end(a, old)
				replacement := a.receive(`{"batch_size":10}`)
				require.Equal(t, []string{"a=2"}, replacement.pairs())
				require.Equal(t, 1, replacement[0].DeliverCount, "the count of a new version starts again")
			})
		})
	}
}

func TestAnAppendingStreamDeliversTheMessagesOfAKeyInOrder(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		require.Equal(t, 4, a.send("a=1", "a=2", "b=1", "a=3"))
		first := a.receive(`{"batch_size":10}`)
		require.Equal(t, []string{"a=1", "b=1"}, first.pairs())
		a.nack(first[:1])
		again := a.receive(`{"batch_size":10}`)
		require.Equal(t, []string{"a=1"}, again.pairs(), "after a nack the same message is delivered again, not the next one")
		a.ack(again)
		second := a.receive(`{"batch_size":10}`)
		require.Equal(t, []string{"a=2"}, second.pairs())
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"a=2", "b=1"}, a.receive(`{"batch_size":10}`).pairs(), "the same after an expiry")
	})
}

func TestRetentionDropsTheOldestMessages(t *testing.T) {
	t.Run("retain_up_to keeps the newest", func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream(`,"retain_up_to":2`, "")
		require.Equal(t, 3, a.send("a=1", "b=2", "c=3"))
		require.Equal(t, []string{"b=2", "c=3"}, messages(t, a))
		require.Equal(t, []string{"b=2", "c=3"}, a.receive(`{"batch_size":10}`).pairs())
	})
	t.Run("an ack of a dropped message succeeds", func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream(`,"retain_up_to":1`, "")
		a.send("a=1")
		old := a.receive(`{}`)
		a.send("b=2")
		require.Empty(t, a.consumer().Outstanding)
		a.ack(old)
		a.nack(old)
		require.Equal(t, []string{"b=2"}, a.receive(`{"batch_size":10}`).pairs())
	})
	t.Run("after a drop the next message of the key is available", func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream(`,"retain_up_to":1`, "")
		a.send("a=1")
		a.receive(`{}`)
		a.send("a=2")
		require.Equal(t, []string{"a=2"}, a.receive(`{"batch_size":10}`).pairs())
	})
}

func TestStreamsAndConsumersAreFoundByIDOrName(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	state, _ := a.Inspect("s")
	for _, stream := range []string{"s", state.ID} {
		for _, consumer := range []string{"c", state.Consumers[0].ID} {
			a.ok("GET", "/api/streams/"+stream+"/consumers/"+consumer, "")
		}
		byRef, ok := a.Inspect(stream)
		require.True(t, ok)
		require.Equal(t, state, byRef)
	}
}
